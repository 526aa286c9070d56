"""`.venv/bin/python benchmarks/turn`, or `make bench-turn`."""

import sys

from turnbench.command import main

if __name__ == "__main__":
    sys.exit(main())
