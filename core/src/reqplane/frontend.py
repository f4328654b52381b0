"""`python -m reqplane.frontend` is `reqplane frontend`."""

import sys

from reqplane.cli import main

if __name__ == "__main__":
    sys.exit(main(["frontend", *sys.argv[1:]]))
