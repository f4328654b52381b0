def reqplane_payload_codecs():
    return []
