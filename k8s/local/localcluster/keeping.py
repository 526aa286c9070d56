"""Images outlive a cluster: unpacking those that have not changed anew would take most of a start.

They lie outside run/, in containerd's own folder. A cluster that ends in order leaves nothing else in it; whether it
did says a file that is there as long as one lives. After any other end the whole folder is thrown away.
"""

import shutil
import time
from collections.abc import Collection
from pathlib import Path

from chatbot_cli.errors import CliError

from localcluster import images
from localcluster.paths import Layout

CRI = "io.containerd.grpc.v1.cri"
"""Where containerd's half that talks to the kubelet remembers pods."""
IN_USE = "in-use"
SECONDS = 5.0


def begin(layout: Layout) -> None:
    """A cluster lives, so that there are containers. Raises `OSError`."""
    layout.images.mkdir(parents=True, exist_ok=True, mode=0o700)
    _in_use(layout).touch()


def end(layout: Layout, kept: Collection[str]) -> None:
    """Remove all that the cluster has put beside these images; its containers' processes have ended.

    Args:
        kept: digests of images.
    """
    try:
        found = images.digests(layout)
        _remove_containers(layout)
        images.remove(layout, [name for name, digest in found.items() if digest not in kept])
    except CliError:  # it says no more what it has
        return
    _in_use(layout).unlink(missing_ok=True)


def clear(layout: Layout) -> None:
    """What is not to be kept, when nothing runs any more. Raises `OSError`."""
    folder = layout.images if _in_use(layout).exists() else layout.images / CRI
    if folder.exists():
        shutil.rmtree(folder)


def _remove_containers(layout: Layout) -> None:
    """containerd needs a moment to see that a process has ended. Raises `CliError`."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return images.remove_containers(layout)
        except CliError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _in_use(layout: Layout) -> Path:
    return layout.images / IN_USE
