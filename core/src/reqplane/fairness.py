"""How long one stream may hold the event loop, whose other streams wait: then it gives way."""

from __future__ import annotations

from typing import Final

BURST: Final = 4096
"""What one stream may send or take before it gives way, in bytes …"""
ITEM_COST: Final = 128
"""… where each item counts for this much more: about 20 items of the usual size."""
