"""Which images there are, and what each is made from."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_cli.errors import CliError
from localcluster.images import full_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
"""The checkout."""
SERVICES = ("gateway", "auth", "chat", "conversation")
STORES = ("postgres", "valkey")
WEAVIATE = "1.39.0"
JAEGER = "1.62.0"
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


@dataclass(frozen=True)
class Image:
    """One image: a Dockerfile, a context, and the files that decide what comes out."""

    name: str
    reference: str
    dockerfile: Path
    context: Path
    inputs: tuple[Path, ...]
    """Files and folders, whole."""
    arguments: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    optional: bool = False
    """Made only when asked for."""

    def digest(self, base: str) -> str:
        """Hash of everything it is made from, the base image included."""
        parts = hashlib.sha256(f"{base} {self.target} {sorted(self.arguments.items())}".encode())
        for path in sorted({file for part in (self.dockerfile, *self.inputs) for file in _files(part)}):
            parts.update(f"{_place(path)} {path.stat().st_size} ".encode())
            parts.update(_content(path))
        return parts.hexdigest()


def named(names: Sequence[str], binaries: Path) -> list[Image]:
    """These images, or all of them, in the order to build them. Raises `CliError`.

    Args:
        binaries: where the cluster's own programs are, of which Weaviate is one.
    """
    known = {image.name: image for image in _all(binaries)}
    wanted = [name.removeprefix("chatbot-") for name in names] or [
        image.name for image in known.values() if not image.optional
    ]
    if unknown := sorted(set(wanted) - known.keys()):
        raise CliError(f"There is no image {', '.join(unknown)}.", f"There are: {', '.join(known)}.")
    return [known[name] for name in known if name in wanted]


def version() -> str:
    """Of the platform, which is the tag of its images."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _all(binaries: Path) -> Iterator[Image]:
    for store in STORES:
        yield _store(store)
    yield _program("weaviate", f"semitechnologies/weaviate:{WEAVIATE}", binaries / "weaviate-server")
    yield _service("operator", "operator", "resource")
    for service in SERVICES:
        yield _service(service, "services/common", f"services/{service}")
    yield _program("jaeger", f"jaegertracing/all-in-one:{JAEGER}", binaries / "jaeger", optional=True)


def _program(name: str, tag: str, program: Path, *, optional: bool = False) -> Image:
    """One that `make cluster-build` made."""
    dockerfile = HERE / name / "Dockerfile"
    return Image(name, full_name(tag), dockerfile, program.parent, (program,), optional=optional)


def _service(name: str, *members: str) -> Image:
    dockerfile = ROOT / "services" / "Dockerfile"
    inputs = _paths(f"requirements/{name}.txt", "requirements/bootstrap.txt", ".dockerignore", *members)
    return Image(name, _reference(name), dockerfile, ROOT, inputs, {"SERVICE": name})


def _store(name: str) -> Image:
    folder = "k8s/images/stores"
    inputs = _paths(f"{folder}/chatbot_{name}.py", "requirements/stores.txt", "requirements/bootstrap.txt")
    return Image(name, _reference(name), ROOT / folder / "Dockerfile", ROOT, inputs, target=name)


def _reference(name: str) -> str:
    return full_name(f"chatbot-{name}:{version()}")


def _paths(*names: str) -> tuple[Path, ...]:
    return tuple(ROOT / name for name in names)


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return (file for file in path.rglob("*") if file.is_file() and not IGNORED & set(file.parts))


def _place(path: Path) -> Path:
    """The same in every checkout, so that a fresh one finds what another has built."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _content(path: Path) -> bytes:
    """A large program is known by the moment it was written: reading it each time takes longer than the rest."""
    status = path.stat()
    return str(status.st_mtime_ns).encode() if status.st_size > 2**25 else path.read_bytes()
