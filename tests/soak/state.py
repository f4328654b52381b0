"""What a process holds at a quiet moment."""

from __future__ import annotations

import asyncio
import gc
import threading

import psutil


def state() -> dict[str, int]:
    """Of this process; garbage is collected first."""
    gc.collect()
    process = psutil.Process()
    return {
        "bytes": process.memory_info().rss,
        "descriptors": process.num_fds(),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
    }
