"""How one resource is laid out on this machine: which processes, on which ports, told what.

The settings come from `service_settings`, the same function the operator uses; here they are only given addresses on
loopback and written to files.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chatbot_resource.configuration import SERVICES, Endpoints, Listen, Resolved, Service, service_settings
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli.errors import INSTALL, CliError
from chatbot_cli.home import Home, write
from chatbot_cli.knowledge import markdown_files
from chatbot_cli.ports import HOST, choose, is_free
from chatbot_cli.references import References
from chatbot_cli.state import State

WORKER = "worker"
DRAIN_SECONDS = 20
"""The longest drain on a laptop: who stops a bot here waits in front of it."""


@dataclass(frozen=True)
class Program:
    """What runs as one process: a command of a service's package."""

    service: Service
    command: str = "serve"

    @property
    def package(self) -> str:
        return f"chatbot_{self.service}"


# In the order in which they are shown.
PROGRAMS: Mapping[str, Program] = {
    "gateway": Program("gateway"),
    "auth": Program("auth"),
    "chat": Program("chat"),
    "conversation": Program("conversation"),
    WORKER: Program("conversation", "worker"),
}
MIGRATED: tuple[Service, ...] = ("auth", "conversation")


@dataclass(frozen=True)
class Layout:
    """Everything that is needed to start the processes."""

    ports: Mapping[str, tuple[int, int]]
    config: Mapping[str, dict[str, Any]]
    files: Mapping[Path, str]
    """Further files to write: seeds, prompts and rules."""
    seeds: Mapping[str, str]
    """Process → digest of what it reads besides its settings."""


def choose_ports(state: State, port: int) -> dict[str, tuple[int, int]]:
    """Ports of every process: those of last time while they are ours or free, else new ones."""
    taken = {port}
    chosen: dict[str, tuple[int, int]] = {}

    def kept_or_new(old: int | None, *, ours: bool) -> int:
        new = old if old and old not in taken and (ours or is_free(old)) else choose(taken)
        taken.add(new)
        return new

    for name in PROGRAMS:
        public, private = state.ports.get(name, (None, None))
        ours = state.alive(name) is not None
        private = kept_or_new(private, ours=ours)
        chosen[name] = (port if name == "gateway" else kept_or_new(public, ours=ours), private)
    return chosen


def lay_out(
    home: Home,
    bot: ChatbotDeployment,
    references: References,
    *,
    ports: Mapping[str, tuple[int, int]],
    public_keys: Mapping[str, str],
    knowledge: Path | None,
) -> Layout:
    """Settings of every process and the files they point to; nothing is written yet."""
    faqs = home.config / "faqs.yaml"
    told_by = {"": references.prompts, **references.variant_prompts}
    prompts = {name: _prompt_files(home.config / "prompts" / name, texts) for name, texts in told_by.items()}
    files = {prompts[name][language]: text for name, texts in told_by.items() for language, text in texts.items()}
    wording = _digest(itertools.chain(*sorted((str(path), text) for path, text in files.items())))
    if references.faqs is not None:
        files[faqs] = references.faqs
    rules = home.config / "moderation.yaml"
    if references.rules is not None:
        files[rules] = references.rules
    settings = service_settings(
        bot,
        Endpoints(
            listen={name: Listen(HOST, *ports[name]) for name in SERVICES},
            urls={name: f"http://{HOST}:{ports[name][0]}" for name in SERVICES},
        ),
        Resolved(
            service_public_keys=public_keys,
            admin_email=admin_email(bot.name),
            faq_file=str(faqs) if references.faqs is not None else None,
            documents_dir=str(knowledge) if knowledge else None,
            prompt_files=_as_text(prompts.pop("")),
            variant_prompt_files={name: _as_text(paths) for name, paths in prompts.items()},
            rules_file=str(rules) if references.rules is not None else None,
        ),
    )
    for told in settings.values():
        told["drain_seconds"] = min(told["drain_seconds"], DRAIN_SECONDS)
    worker_listen = {"host": HOST, "port": ports[WORKER][0], "private_port": ports[WORKER][1]}
    seeds = {
        WORKER: _digest([references.faqs or "", *(_stamps(markdown_files(knowledge)) if knowledge else ())]),
        "chat": _digest([wording, references.rules or ""]),
    }
    config: dict[str, dict[str, Any]] = {str(name): told for name, told in settings.items()}
    config[WORKER] = settings["conversation"] | {"listen": worker_listen}
    return Layout(ports, config, files, seeds)


def _prompt_files(folder: Path, languages: Iterable[str]) -> dict[str, Path]:
    return {language: folder / f"{language}.txt" for language in languages}


def _as_text(paths: Mapping[str, Path]) -> dict[str, str]:
    return {language: str(path) for language, path in paths.items()}


def admin_email(name: str) -> str:
    """Address of the bot's first administrator; `.example` can never belong to anybody."""
    return f"admin@{name}.example"


def write_layout(home: Home, layout: Layout) -> None:
    """Write the files of a layout. Raises `OSError`."""
    for path, text in layout.files.items():
        write(path, text)
    for name, settings in layout.config.items():
        write(config_file(home, name), json.dumps(settings, indent=2) + "\n")


def config_file(home: Home, name: str) -> Path:
    return home.config / f"{name}.json"


def fingerprint(home: Home, layout: Layout, name: str) -> str:
    """Digest of all a process is started with: settings, secrets, seeds and code. It differs: it is started anew."""
    program = PROGRAMS[name]
    secrets = home.secrets / program.service
    texts = [json.dumps(layout.config[name], sort_keys=True), layout.seeds.get(name, ""), code(program.package)]
    for path in sorted(path for path in secrets.rglob("*") if path.is_file() and not path.name.startswith(".")):
        texts += [str(path.relative_to(secrets)), path.read_text(encoding="utf-8")]
    return _digest(texts)


def code(package: str) -> str:
    """Digest of an installed service's files and of what all services share. Raises `CliError`."""
    return _digest(part for name in (package, "chatbot_common") for part in _stamps(_source(name)))


def _source(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CliError(f"The package {package} is not installed.", INSTALL)
    folder = Path(spec.submodule_search_locations[0])
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _stamps(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        stat = path.stat()
        yield f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()
