"""The recorded frames of golden/frames.json, as bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "golden"
_RECORDED = json.loads((_FOLDER / "frames.json").read_text())


def golden(name: str) -> tuple[bytes, bytes, bytes]:
    """(the whole frame, its header, its body)."""
    (entry,) = (one for one in _RECORDED if one["name"] == name)
    header = entry["header"].encode()
    body = bytes.fromhex(entry["body_hex"]) if "body_hex" in entry else entry["body"].encode()
    prefix = struct.pack(">QQQ", len(header), len(body), 0)
    assert entry.get("prefix", prefix.hex()) == prefix.hex()
    return prefix + header + body, header, body


def recorded_failures() -> list[dict[str, Any]]:
    """For each exception that was raised in a Dynamo handler, the `error` member of its error item."""
    return json.loads((_FOLDER / "failures.json").read_text())
