"""``python -m sclong``: the same as the command ``sclong``."""

import sys

from sclong.cli import main

if __name__ == "__main__":
    sys.exit(main())
