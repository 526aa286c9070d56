"""`kubectl chatbot`, also `python -m chatbot_cli.cluster`. Exit codes as `chatbot` has them."""

import sys

from chatbot_cli.__main__ import run
from chatbot_cli.cluster.app import app


def main() -> None:
    sys.exit(run(sys.argv[1:], app, "kubectl chatbot"))


if __name__ == "__main__":
    main()
