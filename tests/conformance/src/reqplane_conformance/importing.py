"""`python -m reqplane_conformance.importing MODULE FILE CLASS`: says what importing a subject does."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from reqplane_conformance.inside import find_class
from reqplane_conformance.leftovers import sockets


def main() -> None:
    """One line of JSON: what happened, by what it happened to; {} if nothing did."""
    open_before, handlers, variables = sockets(), _handlers(), dict(os.environ)
    find_class(*sys.argv[1:4])
    found: dict[str, str] = {}
    if len(sockets() - open_before):
        found["sockets"] = f"({len(sockets() - open_before)} are open)"
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        found["threads"] = f"({', '.join(threads)})"
    if changed := [str(number) for number, handler in _handlers().items() if handlers[number] != handler]:
        found["signals"] = f"({', '.join(changed)} have another handler)"
    if dict(os.environ) != variables:
        found["variables"] = "of the process (changed)"
    print(json.dumps(found))


def _handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


if __name__ == "__main__":
    main()
