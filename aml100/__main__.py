"""`python -m aml100`."""

import sys

from aml100.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
