from reqplane import hookimpl
from reqplane.interfaces import PayloadCodec


class Codec(PayloadCodec):
    name = "../codec"

    def encode(self, value):
        return b""

    def decode(self, data):
        return None


@hookimpl
def reqplane_payload_codecs():
    return [Codec]
