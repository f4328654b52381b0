"""The program `reqplane`.

It stands beside the package, which takes a tenth of a second to load: a Ctrl-C in that time ends the program
as it would end any other, without a traceback.
"""

import signal


def main() -> int:
    """Load the command line, then run it; its exit status."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else whoever started us has other plans for it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from reqplane.cli import main

    signal.signal(signal.SIGINT, before)
    return main()
