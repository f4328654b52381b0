"""The recorded frames of golden/frames.json, as bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

_RECORDED = json.loads((Path(__file__).parent / "golden" / "frames.json").read_text())


def golden(name: str) -> tuple[bytes, bytes, bytes]:
    """(the whole frame, its header, its body)."""
    (entry,) = (one for one in _RECORDED if one["name"] == name)
    header = entry["header"].encode()
    body = bytes.fromhex(entry["body_hex"]) if "body_hex" in entry else entry["body"].encode()
    prefix = struct.pack(">QQQ", len(header), len(body), 0)
    assert entry.get("prefix", prefix.hex()) == prefix.hex()
    return prefix + header + body, header, body
