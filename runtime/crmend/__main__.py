"""``python -m crmend``: the command line, where the script ``crmend`` is not on the path."""

import sys

from crmend.cli import main

if __name__ == "__main__":
    sys.exit(main())
