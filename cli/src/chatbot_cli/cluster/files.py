"""A resource file, read as `chatbot up` reads it: every mistake at once, with its line."""

import sys
from pathlib import Path
from typing import Any

import yaml
from chatbot_resource.documents import Documents, parse, text_of
from chatbot_resource.model import KIND

from chatbot_cli.reading import explained

STDIN = "-"


def read(file: str) -> tuple[Documents, dict[str, Any]]:
    """What a file or, for `-`, standard input says, and the resource in it as it is written.

    Raises:
        CliError: it cannot be read or is wrong, with code 2.
    """
    with explained(file):
        text = sys.stdin.read() if file == STDIN else text_of(Path(file))
        return parse(text, "stdin" if file == STDIN else file), _resource(text)


def _resource(text: str) -> dict[str, Any]:
    found = (item for item in yaml.safe_load_all(text) if isinstance(item, dict) and item.get("kind") == KIND)
    return dict(next(found))
