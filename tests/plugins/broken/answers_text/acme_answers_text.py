from reqplane import hookimpl


@hookimpl
def reqplane_payload_codecs():
    return "codec"
