"""What the Dockerfiles take is there, and each lock file has all that its image's code declares."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from chatbot_cli.errors import CliError
from localimages import catalog
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGES = {image.name: image for image in catalog.named([], Path("/nowhere"))}
PYTHON = {"python_full_version": "3.13.1", "python_version": "3.13", "sys_platform": "linux"}
"""The published base. That of the local builder is in the matrix too."""
PYTHONS = (PYTHON, {**PYTHON, "python_full_version": "3.11.2", "python_version": "3.11"})


def project(member: str) -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / member / "pyproject.toml").read_text(encoding="utf-8"))["project"])


MEMBERS = {
    project(member)["name"]: member
    for member in ("resource", "operator", "services/common", *(f"services/{service}" for service in catalog.SERVICES))
}


def locked(name: str, python: dict[str, str]) -> dict[str, str]:
    """Package → version that a lock file chooses for a Python."""
    found = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate(python):
                found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def declared(member: str, extras: set[str]) -> list[Requirement]:
    """What a member of the workspace needs, with what its own members need."""
    metadata = project(member)
    lists = [metadata["dependencies"], *(metadata.get("optional-dependencies", {}).get(extra, []) for extra in extras)]
    direct = [Requirement(text) for texts in lists for text in texts]
    others = [requirement for requirement in direct if requirement.name not in MEMBERS]
    return others + [
        inner for own in direct if own.name in MEMBERS for inner in declared(MEMBERS[own.name], own.extras)
    ]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python["python_version"])
@pytest.mark.parametrize("service", [*catalog.SERVICES, "operator"])
def test_the_lock_file_has_all_that_the_code_declares(service: str, python: dict[str, str]) -> None:
    member = "operator" if service == "operator" else f"services/{service}"
    extras = set(project(member).get("optional-dependencies", {}))
    have = locked(service, python)
    wanted = [need for need in declared(member, extras) if need.marker is None or need.marker.evaluate(python)]
    assert wanted
    lacking = [str(need) for need in wanted if have.get(canonicalize_name(need.name), "") not in need.specifier]
    assert lacking == []


@pytest.mark.parametrize("name", ["bootstrap", "stores", "operator", *catalog.SERVICES])
def test_every_package_has_a_hash_and_no_host(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    packages = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


@pytest.mark.parametrize(
    "image", [image for image in IMAGES.values() if image.context == ROOT], ids=lambda one: one.name
)
def test_what_a_dockerfile_copies_is_there_and_counts(image: catalog.Image) -> None:
    """Each file that is copied is let through by .dockerignore, and a change of it builds the image again."""
    text = image.dockerfile.read_text(encoding="utf-8")
    for name, value in image.arguments.items():
        text = text.replace(f"${{{name}}}", value)
    copied = [words for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for words in line.split()[:-1]]
    sources = [ROOT / word for word in copied if not word.startswith("--")]
    assert sources
    assert [path for path in sources if not path.exists()] == []
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(any(_covers(pattern, path) for pattern in let_through) for path in sources)
    # Of a folder with many members only the image's own count; of the stores' entry points only its own.
    for path in (path for path in sources if path.is_file() and image.name in path.stem):
        assert any(path == part or path.is_relative_to(part) for part in image.inputs)


def _covers(pattern: str, path: Path) -> bool:
    return path.relative_to(ROOT).match(pattern) or path.is_relative_to(ROOT / pattern)


class TestDigest:
    @pytest.fixture
    def image(self, tmp_path: Path) -> catalog.Image:
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "main.py").write_text("x = 1\n")
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        return catalog.Image("one", "one:1", tmp_path / "Dockerfile", tmp_path, (tmp_path / "code",))

    def test_follows_code_dockerfile_and_base(self, image: catalog.Image, tmp_path: Path) -> None:
        seen = {image.digest("base"), image.digest("other base")}
        (tmp_path / "code" / "main.py").write_text("x = 2\n")
        seen.add(image.digest("base"))
        (tmp_path / "Dockerfile").write_text("FROM scratch\nUSER 1\n")
        seen.add(image.digest("base"))
        (tmp_path / "code" / "main.py").rename(tmp_path / "code" / "moved.py")
        seen.add(image.digest("base"))
        assert len(seen) == 5

    def test_is_the_same_where_nothing_changed(self, image: catalog.Image, tmp_path: Path) -> None:
        before = image.digest("base")
        (tmp_path / "code" / "__pycache__").mkdir()
        (tmp_path / "code" / "__pycache__" / "main.pyc").write_bytes(b"1")
        (tmp_path / "code" / "main.py").touch()
        assert image.digest("base") == before


class TestNames:
    def test_all_carry_the_version_of_the_platform(self) -> None:
        ours = [image.reference for image in IMAGES.values() if "chatbot" in image.reference]
        assert len(ours) == 7
        assert all(reference.endswith(f":{project('operator')['version']}") for reference in ours)

    def test_an_unknown_one_is_named_with_those_there_are(self) -> None:
        with pytest.raises(CliError, match="no image nonsense") as caught:
            catalog.named(["chat", "nonsense"], Path("/nowhere"))
        assert "gateway" in (caught.value.hint or "")

    def test_short_and_long_names(self) -> None:
        assert [image.name for image in catalog.named(["chatbot-chat", "valkey"], Path("/nowhere"))] == [
            "valkey",
            "chat",
        ]
