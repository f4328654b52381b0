"""Fuzz one target by atheris: `python tests/fuzz/run.py --seconds 60 TARGET`.

A find is written to a file whose name is printed; `--replay FILE` runs one again, without atheris.  Mend
it, and put the file into corpus/TARGET/.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
PACKAGES = ["reqplane", "reqplane_http", "reqplane_tcp_stream", "fuzz"]
LONGEST = 8192
SMALL_BUFFER = 64
"""From how many bytes a body gets a buffer of its own here, so that short inputs reach that too."""


def small_buffers() -> None:
    """For this whole process."""
    from reqplane.wire import frame

    frame._OWN_BUFFER_FROM = SMALL_BUFFER


def _fuzz(target: str, seconds: int) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=PACKAGES, enable_loader_override=False):
        from fuzz.targets import TARGETS
    small_buffers()
    logging.getLogger("reqplane").setLevel(logging.ERROR)
    found = tempfile.mkdtemp(prefix=f"fuzz-{target}-")
    options: list[Any] = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={found}/",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-verbosity=1",
        tempfile.mkdtemp(prefix=f"corpus-{target}-"),
        str(CORPUS / target),
    ]

    def one(data: bytes) -> None:
        TARGETS[target](data)

    atheris.Setup(options, one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--replay", type=Path, metavar="FILE")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    if options.replay is None:
        _fuzz(options.target, options.seconds)
    else:
        from fuzz.targets import TARGETS

        small_buffers()
        TARGETS[options.target](options.replay.read_bytes())


if __name__ == "__main__":
    main()
