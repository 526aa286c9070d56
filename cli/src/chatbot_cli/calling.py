"""How this program is called from where the user stands, for hints that can be pasted."""

import os
import shutil
import sys
from pathlib import Path


def program_name() -> str:
    """`chatbot`, or by its path when it is not on the PATH, as after `make up`."""
    beside = Path(sys.executable).parent / "chatbot"
    found = shutil.which("chatbot")
    if found and Path(found).resolve() == beside.resolve():
        return "chatbot"
    if not beside.exists():
        return "python -m chatbot_cli"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def call(arguments: str) -> str:
    """A whole command, such as `.venv/bin/chatbot status`."""
    return f"{program_name()} {arguments}"
