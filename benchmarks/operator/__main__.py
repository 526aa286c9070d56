"""`.venv/bin/python benchmarks/operator`, or `make bench-operator`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "k8s/local"))

from operatorbench.command import main

if __name__ == "__main__":
    sys.exit(main())
