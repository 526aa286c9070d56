"""What of containerd's folder outlives a cluster: images, and after a crash nothing."""

import pytest
from localcluster import keeping
from localcluster.paths import Layout

SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs"


@pytest.fixture(autouse=True)
def lived(layout: Layout) -> None:
    """A cluster that has begun."""
    keeping.begin(layout)
    for name in (SNAPSHOTS, keeping.CRI):
        (layout.images / name).mkdir()


def test_where_a_cluster_was_killed_nothing_is_kept(layout: Layout) -> None:
    keeping.clear(layout)
    assert not layout.images.exists()


def test_where_it_ended_in_order_images_are_and_pods_are_not(layout: Layout) -> None:
    (layout.images / keeping.IN_USE).unlink()
    keeping.clear(layout)
    assert [path.name for path in layout.images.iterdir()] == [SNAPSHOTS]


def test_whoever_cannot_be_asked_has_kept_nothing(layout: Layout) -> None:
    keeping.end(layout, {"sha256:0"})
    keeping.clear(layout)
    assert not layout.images.exists()


def test_nothing_is_nothing_to_clear(layout: Layout) -> None:
    for _ in range(2):
        keeping.clear(layout)
