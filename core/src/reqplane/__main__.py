"""`python -m reqplane` is the command `reqplane`."""

import sys

from reqplane.cli import main

if __name__ == "__main__":
    sys.exit(main())
