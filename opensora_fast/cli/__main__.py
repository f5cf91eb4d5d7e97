"""`python -m opensora_fast.cli` is `opensora-fast`."""

import sys

from opensora_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
