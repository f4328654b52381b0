"""Which number to try for next."""

from __future__ import annotations

import random
from collections.abc import Container
from itertools import count, islice

_SPREAD = 8


def choose(taken: Container[int], conflicts: int) -> int:
    """The lowest free number; after n conflicts a random one of the n times 8 lowest.

    A hundred workers that start at once and all try for the lowest would need five thousand attempts.
    """
    free = (number for number in count() if number not in taken)
    return random.choice(list(islice(free, max(1, conflicts * _SPREAD))))
