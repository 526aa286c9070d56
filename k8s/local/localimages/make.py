"""Build what changed, load what the cluster lacks.

What was built from which inputs is remembered in stamps.json, and the cluster is asked what it has, so a second run
finds nothing to do, and one that was broken off goes on where it was.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chatbot_cli import screen
from chatbot_cli.errors import CliError
from localcluster import archives, paths
from localcluster import images as runtime

from localimages import base, catalog
from localimages.buildah import Buildah
from localimages.catalog import HERE, Image


@dataclass
class Stamp:
    """What is known of one image since the last run."""

    inputs: str = ""
    identity: str = ""
    """buildah's id of what was built from `inputs`."""
    loaded: str = ""
    """containerd's digest of it, as loaded."""


def images(names: Sequence[str] = ()) -> None:
    """Build these images, or all, and load them into the cluster if it runs. Raises `CliError`, `OSError`."""
    layout = paths.this_machine()
    folder = paths.home() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with _locked(folder):
        made = _Run(folder, layout).run(catalog.named(names, layout.bin))
    screen.say("Images", f"{made} made or loaded, {time.monotonic() - began:.1f} s in all")


def loaded() -> set[str]:
    """containerd's digests of what was loaded last."""
    return {stamp.loaded for stamp in _load(paths.home() / "images" / "stamps.json").values()} - {""}


class _Run:
    def __init__(self, folder: Path, layout: paths.Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._buildah = Buildah(folder)
        self._base = f"localhost/chatbot-python:{base.digest()[:12]}"
        self._prepared = False
        self._stamps = _load(folder / "stamps.json")

    def run(self, wanted: list[Image]) -> int:
        """How many images something was done for."""
        running = self._layout.containerd_socket.exists()
        if not running:
            screen.warn("Cluster", "it does not run, so images are only built; run this again after make cluster-up")
        there = runtime.digests(self._layout) if running else {}
        done = 0
        for image in wanted:
            stamp = self._stamps.setdefault(image.name, Stamp())
            inputs = self._inputs(image)
            current = stamp.inputs == inputs
            if current and running and there.get(image.reference) == stamp.loaded != "":
                screen.out.print(f"[dim]· {image.name:<{screen.WIDTH}} unchanged[/]")
                continue
            done += self._make(image, stamp, inputs, running)
        return done

    def _inputs(self, image: Image) -> str:
        if missing := [path for path in (image.dockerfile, *image.inputs) if not path.exists()]:
            raise CliError(f"The image {image.name} needs {missing[0]}.", "make cluster-build makes programs.")
        return image.digest(self._base)

    def _make(self, image: Image, stamp: Stamp, inputs: str, running: bool) -> bool:
        self._prepare()
        did = []
        with screen.step(image.name, "looking for what was built before") as step:
            if stamp.inputs != inputs or not self._buildah.has(stamp.identity):
                self._ensure_base(step)
                identity = self._buildah.build(image, self._base, step.note)
                self._remember(image.name, Stamp(inputs, identity))
                did.append("built")
            if running:
                step.note("loading it into the cluster")
                self._load(image)
                did.append("loaded")
            step.done(f"{', '.join(did)}: {image.reference}") if did else step.unchanged("unchanged")
        return bool(did)

    def _prepare(self) -> None:
        if not self._prepared:
            self._buildah.prepare()
            self._prepared = True

    def _ensure_base(self, step: screen.Step) -> None:
        if self._buildah.has(self._base):
            return
        step.note("assembling the base image from Debian packages")
        folder = self._folder / "base"
        base.assemble(folder, self._folder / "debs")
        self._buildah.build_base(self._base, HERE / "python" / "Dockerfile", folder)

    def _load(self, image: Image) -> None:
        whole, lacking = self._folder / "export.tar", self._folder / "lacking.tar"
        stamp = self._stamps[image.name]
        try:
            self._buildah.export(stamp.identity, image.reference, whole)
            archives.slim(whole, image.reference, runtime.contents(self._layout), lacking)
            try:
                runtime.load(lacking, self._layout)
            except CliError:  # containerd has thrown away meanwhile what it had
                runtime.load(whole, self._layout)
        finally:
            whole.unlink(missing_ok=True)
            lacking.unlink(missing_ok=True)
        stamp.loaded = runtime.digests(self._layout)[image.reference]
        self._remember(image.name, stamp)

    def _remember(self, name: str, stamp: Stamp) -> None:
        self._stamps[name] = stamp
        draft = self._folder / "stamps.new"
        draft.write_text(json.dumps({key: asdict(value) for key, value in self._stamps.items()}), encoding="utf-8")
        draft.replace(self._folder / "stamps.json")


def _load(path: Path) -> dict[str, Stamp]:
    try:
        return {name: Stamp(**fields) for name, fields in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            screen.say("Waiting", "for another build of images to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
