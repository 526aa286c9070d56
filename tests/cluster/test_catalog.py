"""When an image is made anew: when what it is made from has changed, and not when it lies elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
from localimages import catalog
from localimages.catalog import Image

Digest = Callable[..., str]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """Of an image that is made in a checkout of that name."""

    def of(checkout: str, program: str = "serve()", file: str = "serve.py") -> str:
        root = tmp_path / checkout
        root.mkdir()
        (root / "Dockerfile").write_text("FROM base\n")
        (root / file).write_text(program)
        monkeypatch.setattr(catalog, "ROOT", root)
        return Image("serve", "serve:1", root / "Dockerfile", root, (root / file,)).digest("base")

    return of


def test_a_fresh_checkout_finds_what_another_has_built(digest: Digest) -> None:
    assert digest("one") == digest("two")


@pytest.mark.parametrize("change", [{"program": "serve(8080)"}, {"file": "server.py"}])
def test_a_change_is_seen(digest: Digest, change: dict[str, str]) -> None:
    assert digest("one") != digest("two", **change)
