"""The operator as a later version of itself, which makes the same of every resource: `newer.py VERSION`."""

import sys

from chatbot_operator import __main__ as program
from chatbot_operator import history

history.installed = lambda _: sys.argv[1]  # type: ignore[attr-defined]
sys.exit(program.main())
