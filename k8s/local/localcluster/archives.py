"""Image archives with no more in them than containerd lacks: of an image of 400 MB mostly its last layer is new."""

import hashlib
import io
import json
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

OCI = "application/vnd.oci.image"


def slim(archive: Path, reference: str, known: Collection[str], target: Path) -> None:
    """Write a docker-archive of buildah's anew, as an OCI archive without the layers that are `known`.

    Args:
        reference: the name that the image gets.
        known: digests, such as `sha256:…`, of what containerd has.

    Raises:
        OSError: a file cannot be read or written.
        KeyError: the archive is no docker-archive, or its layers are not named by their digests.
    """
    with tarfile.open(archive) as source, tarfile.open(target, "w") as tar:
        (told,) = json.load(_opened(source, "manifest.json"))
        config = _opened(source, told["Config"]).read()
        layers = [
            (name, _descriptor("layer.v1.tar", Path(name).stem, source.getmember(name).size)) for name in told["Layers"]
        ]
        for name, layer in layers:
            if layer["digest"] not in known:
                _add(tar, _place(layer), _opened(source, name), layer["size"])
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _blob(tar, "config.v1+json", config),
            "layers": [layer for _, layer in layers],
        }
        named = {"annotations": {"io.containerd.image.name": reference}}
        entry = _blob(tar, "manifest.v1+json", json.dumps(manifest).encode()) | named
        _add_bytes(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": size}


def _blob(tar: tarfile.TarFile, kind: str, content: bytes) -> dict[str, Any]:
    descriptor = _descriptor(kind, hashlib.sha256(content).hexdigest(), len(content))
    _add_bytes(tar, _place(descriptor), content)
    return descriptor


def _place(descriptor: dict[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _opened(source: tarfile.TarFile, name: str) -> IO[bytes]:
    file = source.extractfile(name)
    if file is None:
        raise OSError(f"the archive of an image has no file {name}")
    return file


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add(tar, name, io.BytesIO(content), len(content))


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, content)
