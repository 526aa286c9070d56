"""What goes wrong with a resource file, in words."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from chatbot_resource.documents import InvalidFile

from chatbot_cli.errors import CliError


@contextlib.contextmanager
def explained(file: Path | str) -> Iterator[None]:
    """Raises `CliError` with code 2 for what reading the file in its block raises."""
    try:
        yield
    except InvalidFile as error:
        count = len(error.mistakes)
        what = "a mistake" if count == 1 else f"{count} mistakes"
        raise CliError(f"{file} has {what}:", details=str(error).splitlines(), code=2) from None
    except FileNotFoundError:
        raise CliError(f"There is no file {file}.", "A good first one: k8s/samples/minimal.yaml", code=2) from None
    except IsADirectoryError:
        raise CliError(f"{file} is a folder.", "Name a file in it.", code=2) from None
    except UnicodeDecodeError:
        raise CliError(f"{file} is not a UTF-8 text file.", code=2) from None
