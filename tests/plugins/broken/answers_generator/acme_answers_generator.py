from reqplane import hookimpl


@hookimpl
def reqplane_payload_codecs():
    yield 1
