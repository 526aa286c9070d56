"""What should run: the file, completed with what this machine offers, and checked before anything is touched."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from chatbot_resource.documents import Documents, load
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli import state
from chatbot_cli.discovery import Found, discover, remembered
from chatbot_cli.home import Home, home_of
from chatbot_cli.keys import provider_key_file
from chatbot_cli.probe import trouble
from chatbot_cli.reading import explained
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
    discovered: Found | None = None
    trouble: str | None = None
    """Why the model that was found will not answer."""


def understand(options: Options) -> Wish:
    """Read the file and look up what it refers to. Raises `CliError`."""
    documents = _load(options.file)
    sources: list[Mapping[str, str]] = [read_env_file(options.env_file)] if options.env_file else []
    sources.append(os.environ)
    if not options.discovery:
        return Wish(options, documents.bot, resolve(documents, documents.bot, sources), None, documents.ignored)
    last, kept = _last(home_of(documents.bot.name))
    bot, text, found = discover(documents.bot, sources, last)
    if found and found is last:
        # The remembered key is for this provider alone: what the file itself asks for must still be supplied.
        references = replace(resolve(documents, documents.bot, sources), provider_keys=kept)
    else:
        references = resolve(documents, bot, sources)
    wrong = trouble(found.provider, references.provider_keys.get(found.provider.name)) if found else None
    return Wish(options, bot, references, text, documents.ignored, found, wrong)


def _last(home: Home) -> tuple[Found | None, Mapping[str, str]]:
    """The model that was found the last time, and its provider's key by name; none when the key is gone."""
    found = remembered(state.load(home).discovered)
    if found is None or found.provider.api_key_secret_ref is None:
        return found, {}
    name = found.provider.name
    try:
        key = provider_key_file(home, name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    return (found, {name: key}) if key else (None, {})


def _load(file: Path) -> Documents:
    with explained(file):
        return load(file)
