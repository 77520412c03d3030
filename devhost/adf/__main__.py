"""`python -m devhost.adf`: the command line of the Data Factory runner."""

import sys

from devhost.adf.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
