"""buildah, with a storage of our own below the cluster's home: nothing of the user's is seen or changed."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from chatbot_cli.errors import CliError
from localcluster import packages

from localimages.catalog import Image

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SHOWN = 12
"""Lines of a failed build that are shown."""


class Buildah:
    """All it keeps is in `folder`: storage/ (images and layers), cache/ (what package installers download)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Install it where it is missing, and remove what a build that was killed left. Raises `CliError`."""
        if packages.find("buildah") is None:
            packages.install(["buildah"])
        self._cache.mkdir(parents=True, exist_ok=True)
        self._run("rm", "--all")

    def has(self, identity: str) -> bool:
        """Whether an image is there, by its id or its name. Raises `CliError`."""
        return bool(identity) and self._call(["inspect", "--type", "image", identity]).returncode == 0

    def build(self, image: Image, base: str, say: Callable[[str], None]) -> str:
        """Id of the image, built now; `say` is told each step. Raises `CliError`."""
        settings = [f"--volume={source}:{target}:ro" for target, source in _installer_settings().items()]
        arguments = [f"--build-arg={name}={value}" for name, value in {"PYTHON_IMAGE": base, **image.arguments}.items()]
        target = [f"--target={image.target}"] if image.target else []
        return self._bud(image.name, [*settings, *arguments, *target], image.dockerfile, image.context, say)

    def build_base(self, name: str, dockerfile: Path, context: Path) -> str:
        """Raises `CliError`."""
        return self._bud("base", [f"--tag={name}"], dockerfile, context, lambda _: None)

    def export(self, identity: str, reference: str, archive: Path) -> None:
        """Write an image to a docker-archive that knows it by `reference`. Raises `CliError`."""
        archive.unlink(missing_ok=True)
        self._run("push", identity, f"docker-archive:{archive}:{reference}")

    def _bud(self, name: str, options: list[str], dockerfile: Path, context: Path, say: Callable[[str], None]) -> str:
        """chroot isolation: a build needs no runtime, no network of its own and no cgroup."""
        identity = self._folder / "built"
        log = self._folder / f"{name}.log"
        command = ["bud", "--layers", "--isolation=chroot", "--pull-never", f"--iidfile={identity}", *options]
        with (
            open(log, "w", encoding="utf-8") as file,
            subprocess.Popen(  # noqa: S603 - no shell
                [*self._command(), *command, "--file", str(dockerfile), str(context)],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as running,
        ):
            for line in running.stdout or ():
                file.write(line)
                if "STEP" in line:
                    say(line.strip())
        if running.returncode != 0:
            lines = log.read_text(encoding="utf-8").splitlines()[-SHOWN:]
            raise CliError(f"The image {name} could not be built.", f"All of it: {log}", lines)
        return identity.read_text(encoding="ascii").strip()

    @property
    def _cache(self) -> Path:
        return self._folder / "cache"

    def _command(self) -> list[str]:
        program = packages.find("buildah")
        if program is None:
            raise CliError("There is no buildah here.", "Install it: apt-get install buildah")
        places = [f"--root={self._folder}/storage", f"--runroot={self._folder}/locks", "--storage-driver=overlay"]
        return [program, *places]

    def _environment(self) -> dict[str, str]:
        # TMPDIR also decides where `RUN --mount=type=cache` keeps its files.
        return {**os.environ, "TMPDIR": str(self._cache)}

    def _call(self, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        command = [*self._command(), *arguments]
        return subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)  # noqa: S603

    def _run(self, *arguments: str) -> None:
        if (done := self._call(list(arguments))).returncode != 0:
            raise CliError(f"buildah {arguments[0]} failed.", None, done.stderr.splitlines()[-SHOWN:])


def _installer_settings() -> dict[str, Path]:
    """Place in a build → the file here that says where packages come from and whom to trust.

    Files, never the environment: what a build sees as environment would stay in the image.
    """
    home, environment = Path.home(), os.environ
    wanted = {
        CERTIFICATES: (environment.get("SSL_CERT_FILE"), CERTIFICATES),
        "/etc/pip.conf": (environment.get("PIP_CONFIG_FILE"), home / ".config/pip/pip.conf", "/etc/pip.conf"),
        "/etc/uv/uv.toml": (environment.get("UV_CONFIG_FILE"), home / ".config/uv/uv.toml", "/etc/uv/uv.toml"),
    }
    found = {target: [Path(place) for place in places if place] for target, places in wanted.items()}
    return {target: path for target, paths in found.items() if (path := next(filter(Path.is_file, paths), None))}
