"""A codec of which no peer but ours has heard."""

from __future__ import annotations

import json
import zlib
from typing import Any

from reqplane import PayloadError
from reqplane.interfaces import PayloadCodec
from reqplane.model import Body


class ZippedJson(PayloadCodec):
    name = "zipped-json"

    def encode(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode())  # the core makes a PayloadError of what this raises

    def decode(self, data: Body) -> Any:
        try:
            return json.loads(zlib.decompress(data))
        except (zlib.error, ValueError, RecursionError) as error:
            raise PayloadError(f"not zipped json: {error}") from error
