"""From pinned Go modules to programs in bin/.

A module's go.mod and go.sum are committed, so what is compiled is checked against known checksums. Programs appear in
bin/ whole or not at all: they are linked into a folder beside, then renamed, and a stamp that says what they were made
from is written last. An interrupted build goes on where it was, because Go keeps each compiled package in its cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_cli.errors import CliError

from localcluster import unpacked
from localcluster.paths import SOURCE

GIB = 1024**3
USUAL_GO = Path("/usr/local/go/bin/go")
KUBERNETES = "1.34.10"
HELM = "3.19.4"
METRICS_SERVER = "0.9.0"
KEDA = "2.18.0"


@dataclass(frozen=True)
class Build:
    """What is made from one module.

    All that links the Kubernetes libraries is one build with one set of flags: each difference would compile some 700
    packages again.
    """

    name: str
    """Also the folder below modules/."""
    programs: dict[str, str]
    """Go package → the program's name in bin/."""
    minutes: float
    """About, on two cores, from nothing."""
    gib: int
    """Of disk, for the caches of Go."""
    tags: str = ""
    versions: tuple[str, ...] = ()
    """Values for variables of the programs: `package.variable=value`."""
    links: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Program → other names it goes by."""
    extra: bool = False
    """Built only when asked for by its name."""

    @property
    def source(self) -> Path:
        return SOURCE / "modules" / self.name

    @property
    def flags(self) -> list[str]:
        linking = " ".join(["-s -w", *(f"-X {version}" for version in self.versions)])
        tags = ["-tags", self.tags] if self.tags else []
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", *tags, "-ldflags", linking]


def _kubernetes_versions() -> tuple[str, ...]:
    major, minor, _ = KUBERNETES.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    helm = "helm.sh/helm/v3"
    return (
        *(f"{package}.{name}={value}" for package in packages for name, value in values.items()),
        f"{helm}/internal/version.version=v{HELM}",
        *(
            f"{helm}/{package}.k8sVersion{name}={value}"
            for package in ("pkg/chartutil", "pkg/lint/rules")
            for name, value in (("Major", major), ("Minor", minor))
        ),
    )


BUILDS = (
    Build(
        "etcd",
        {"go.etcd.io/etcd/server/v3": "etcd", "go.etcd.io/etcd/etcdctl/v3": "etcdctl"},
        minutes=0.5,
        gib=1,
    ),
    Build(
        "kubernetes",
        {
            ".": "hyperkube",
            "./netpol": "netpol",
            "./provisioner": "provisioner",
            "./pause": "pause",
            "./coredns": "coredns",
            "helm.sh/helm/v3/cmd/helm": "helm",
        },
        minutes=8,
        gib=5,
        tags="notest,grpcnotrace",
        versions=_kubernetes_versions(),
        links={
            "hyperkube": (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        },
    ),
    Build(
        "metrics-server",
        {"sigs.k8s.io/metrics-server/cmd/metrics-server": "metrics-server"},
        minutes=4,
        gib=2,
        versions=tuple(
            f"{package}.gitVersion=v{METRICS_SERVER}"
            for package in ("k8s.io/client-go/pkg/version", "k8s.io/component-base/version")
        ),
    ),
    Build(
        "weaviate",
        {"github.com/weaviate/weaviate/cmd/weaviate-server": "weaviate-server"},
        minutes=5,
        gib=3,
        tags="netgo",
    ),
    Build(
        "jaeger",
        {"github.com/jaegertracing/jaeger/cmd/all-in-one": "jaeger"},
        minutes=3,
        gib=2,
        tags="netgo",
    ),
    Build(
        "traefik",
        {"github.com/traefik/traefik/v3/cmd/traefik": "traefik"},
        minutes=6,
        gib=4,
        tags="netgo",
        extra=True,
    ),
    Build(
        "keda",
        {
            f"github.com/kedacore/keda/v2/cmd/{package}": f"keda-{package}"
            for package in ("operator", "adapter", "webhooks")
        },
        minutes=7,
        gib=4,
        versions=(f"github.com/kedacore/keda/v2/version.Version={KEDA}",),
        extra=True,
    ),
    Build(
        "cloudnative-pg",
        {"github.com/cloudnative-pg/cloudnative-pg/cmd/manager": "cnpg-manager"},
        minutes=2,
        gib=2,
        extra=True,
    ),
)
"""In the order of need: a cluster runs pods with the first two. Those from jaeger on are for tests."""
NAMES = tuple(build.name for build in BUILDS)
USUAL = tuple(build.name for build in BUILDS if not build.extra)


def named(names: Iterable[str]) -> list[Build]:
    """Raises `CliError` for a name that is none."""
    wanted = set(names)
    if unknown := sorted(wanted - set(NAMES)):
        known = ", ".join((*NAMES, unpacked.PACKAGE))
        raise CliError(f"There is no build {', '.join(unknown)}.", f"There are: {known}")
    return [build for build in BUILDS if build.name in wanted]


def inputs(build: Build) -> str:
    """A digest of all that decides what the programs are: pins, checksums, our own sources, flags."""
    digest = hashlib.sha256(json.dumps([build.flags, build.programs, build.links]).encode())
    for file in sorted(path for path in build.source.rglob("*") if path.suffix in (".mod", ".sum", ".go")):
        digest.update(f"\n{file.relative_to(build.source)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def is_built(build: Build, folder: Path) -> bool:
    """True when all programs are there, made from what the checkout says now."""
    programs = [*build.programs.values(), *(link for links in build.links.values() for link in links)]
    return _stamp(build, folder).get("inputs") == inputs(build) and all((folder / name).exists() for name in programs)


def last_seconds(build: Build, folder: Path) -> float | None:
    """How long the last build of this took here."""
    seconds = _stamp(build, folder).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def build_one(build: Build, folder: Path, note: Callable[[int, float], None]) -> float:
    """Compile, link and put in place.

    Args:
        note: called for each package compiled, with how many that were and the seconds so far.

    Returns:
        The seconds it took.

    Raises:
        CliError: Go is missing or fails, or the disk is too full.
    """
    go = find_go()
    began = time.monotonic()
    fresh = folder / f".{build.name}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    _check_disk(build, go, environment)
    command = [str(go), "build", "-v", *build.flags, "-o", f"{fresh}/", *build.programs]
    try:
        _run(build, command, environment, note, began)
        _put_in_place(build, fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    seconds = time.monotonic() - began
    record = {"inputs": inputs(build), "seconds": round(seconds, 1)}
    temporary = _stamp_file(build, folder).with_suffix(".new")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(_stamp_file(build, folder))
    return seconds


def find_go() -> Path:
    """Raises `CliError` when there is none."""
    found = shutil.which("go") or (str(USUAL_GO) if USUAL_GO.exists() else None)
    if found is None:
        raise CliError(
            "Go is needed to build the cluster, and was not found.",
            "Install Go 1.26 or newer from https://go.dev/dl/ (Debian's own is too old) and put its bin/ on the PATH.",
        )
    return Path(found)


def _run(
    build: Build,
    command: Sequence[str],
    environment: dict[str, str],
    note: Callable[[int, float], None],
    began: float,
) -> None:
    """Go names each package it compiles on its error stream; what else it says there is what went wrong."""
    compiled, said = 0, []
    with subprocess.Popen(  # noqa: S603 - no shell
        command, cwd=build.source, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None  # noqa: S101 - asked for above
        try:
            for line in process.stderr:
                if " " in line.strip():
                    said.append(line.rstrip())
                else:
                    compiled += 1
                note(compiled, time.monotonic() - began)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise CliError(
            f"Go could not build {build.name}.",
            "What was compiled is kept: the same command goes on from there.",
            [line for line in said if not line.startswith("go: downloading")][-10:],
        )


def _put_in_place(build: Build, fresh: Path, folder: Path) -> None:
    for package, name in build.programs.items():
        (fresh / _made(build, package)).replace(folder / name)
    for program, links in build.links.items():
        for link in links:
            new = fresh / link
            new.symlink_to(program)
            new.replace(folder / link)


def _made(build: Build, package: str) -> str:
    """What Go calls the program of a package: its last folder that is no major version."""
    if package == ".":
        return build.name
    parts = package.split("/")
    return parts[-2] if parts[-1].startswith("v") and parts[-1][1:].isdigit() else parts[-1]


def _check_disk(build: Build, go: Path, environment: dict[str, str]) -> None:
    output = subprocess.run(  # noqa: S603
        [go, "env", "GOCACHE"], env=environment, capture_output=True, text=True, check=False
    ).stdout.strip()
    there = next(folder for folder in (Path(output), *Path(output).parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < build.gib * GIB:
        raise CliError(
            f"Too little disk: {free / GIB:.1f} GiB are free at {there}, building {build.name} needs {build.gib}.",
            "Free some space ('go clean -cache' empties Go's own), or set GOCACHE to a folder on another disk.",
        )


def _stamp_file(build: Build, folder: Path) -> Path:
    return folder / f".{build.name}.json"


def _stamp(build: Build, folder: Path) -> dict[str, object]:
    try:
        found = json.loads(_stamp_file(build, folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
