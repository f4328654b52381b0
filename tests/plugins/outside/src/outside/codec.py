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
        try:
            return zlib.compress(json.dumps(value).encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise PayloadError(f"zipped json: {error}") from error

    def decode(self, data: Body) -> Any:
        try:
            return json.loads(zlib.decompress(data))
        except (zlib.error, ValueError, RecursionError) as error:
            raise PayloadError(f"not zipped json: {error}") from error
