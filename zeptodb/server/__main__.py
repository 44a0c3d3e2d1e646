"""`python -m zeptodb.server` is the console command `zepto_server`."""

from __future__ import annotations

import sys

from zeptodb.server.command import main

if __name__ == "__main__":
    sys.exit(main())
