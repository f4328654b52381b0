"""Ports of loopback for processes that have to be told theirs.

They come from below those that the kernel hands out to others: between the choice and the bind, which may be
a second away, nobody is given one by accident.  Processes that share the tests choose apart by chance.
"""

from __future__ import annotations

import random
import socket

_RANGE = range(12_000, 32_000)  # Linux hands out 32768 to 60999, macOS from 49152 on
_chance = random.SystemRandom()  # not the shared one, which tests may seed


def free_ports(count: int) -> list[int]:
    """So many different ones on which nobody listens."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", _chance.choice(_RANGE)))
            except OSError:
                probe.close()
            else:
                held.append(probe)
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()


def free_port() -> int:
    (port,) = free_ports(1)
    return port
