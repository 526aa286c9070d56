"""What should run: the file, completed with what this machine offers, and checked before anything is touched."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_resource.documents import Documents, InvalidFile, load
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli.discovery import discover
from chatbot_cli.errors import CliError
from chatbot_cli.references import References, read_env_file, resolve


@dataclass(frozen=True)
class Options:
    """What the user asked for on the command line."""

    file: Path
    port: int | None = None
    knowledge: Path | None = None
    no_knowledge: bool = False
    env_file: Path | None = None
    discovery: bool = True


@dataclass(frozen=True)
class Wish:
    """A bot with every reference resolved."""

    options: Options
    bot: ChatbotDeployment
    references: References = field(repr=False)
    found: str | None
    """What was said about models found on this machine."""
    ignored: tuple[str, ...] = ()


def understand(options: Options) -> Wish:
    """Read the file and look up what it refers to. Raises `CliError`."""
    documents = _load(options.file)
    sources: list[Mapping[str, str]] = [read_env_file(options.env_file)] if options.env_file else []
    sources.append(os.environ)
    bot, found = discover(documents.bot, sources) if options.discovery else (documents.bot, None)
    return Wish(options, bot, resolve(documents, bot, sources), found, documents.ignored)


def _load(file: Path) -> Documents:
    try:
        return load(file)
    except InvalidFile as error:
        count = len(error.mistakes)
        what = "a mistake" if count == 1 else f"{count} mistakes"
        raise CliError(f"{file} has {what}:", details=str(error).splitlines(), code=2) from None
    except FileNotFoundError:
        raise CliError(f"There is no file {file}.", "A good first one: k8s/samples/minimal.yaml", code=2) from None
    except IsADirectoryError:
        raise CliError(f"{file} is a folder.", "Name a file in it.", code=2) from None
