"""Response transports that are wrong, each in one way that real ones are, and what the suite says of each.

All are the one in memory, which is right, but for a few lines.
"""

from wrong_responses import calling_home, control, ends, flow, items, life, streamed
from wrong_responses.table import WRONG, Wrong

__all__ = ["WRONG", "Wrong", "items", "ends", "flow", "control", "calling_home", "life", "streamed"]
