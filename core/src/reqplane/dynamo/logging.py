"""`dynamo.runtime.logging`: a program's log goes to stderr, from the level that DYN_LOG says."""

from __future__ import annotations

import logging
import sys

from reqplane.settings import Settings, environment, load


def configure_dynamo_logging(service_name: str | None = None, worker_id: int | None = None) -> None:
    """Set up the root logger, in place of what it had.

    `service_name` and `worker_id` stand in front of each line.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    names = [str(name) for name in (service_name, worker_id) if name is not None]
    before = f"[{':'.join(names)}] " if names else ""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {before}%(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(load(Settings, environment()).log_level.upper())
