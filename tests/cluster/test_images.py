"""An image without an engine: what is in the file is what its digests say."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster.archives import slim
from localcluster.images import Image, load, pack
from localcluster.paths import Layout


@pytest.fixture
def archive(tmp_path: Path) -> tarfile.TarFile:
    program = tmp_path / "serve"
    program.write_bytes(b"#!")
    return tarfile.open(pack(Image("localhost/serve:1", "serve", "1:2"), program, tmp_path))


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


class TestPack:
    def test_names_itself_and_its_parts_by_their_digests(self, archive: tarfile.TarFile) -> None:
        with archive:
            (manifest,) = json.loads(content(archive, "manifest.json"))
            config = content(archive, manifest["Config"])
            layer = content(archive, manifest["Layers"][0])
        assert manifest["RepoTags"] == ["localhost/serve:1"]
        assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
        assert json.loads(config)["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
        assert json.loads(config)["config"] == {"Entrypoint": ["/serve"], "User": "1:2", "WorkingDir": "/"}

    def test_holds_the_program_and_a_tmp_that_all_may_write(self, archive: tarfile.TarFile) -> None:
        with archive, tarfile.open(fileobj=archive.extractfile("layer.tar")) as layer:
            files = {entry.name: (oct(entry.mode), entry.uid) for entry in layer}
        assert files == {"tmp": ("0o1777", 0), "serve": ("0o755", 0)}


class TestSlim:
    def test_leaves_out_what_is_known_already(self, tmp_path: Path) -> None:
        layers = [b"packages", b"members"]
        digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
        told = [{"Config": "some.json", "Layers": [f"{digest}.tar" for digest in digests]}]
        files = {"some.json": b"{}", "manifest.json": json.dumps(told).encode()}
        files |= {f"{digest}.tar": layer for digest, layer in zip(digests, layers, strict=True)}
        with tarfile.open(tmp_path / "whole.tar", "w") as whole:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                whole.addfile(entry, io.BytesIO(text))
        slim(tmp_path / "whole.tar", "localhost/serve:1", {f"sha256:{digests[0]}"}, tmp_path / "slim.tar")
        with tarfile.open(tmp_path / "slim.tar") as archive:
            found = {name: content(archive, name) for name in archive.getnames()}
        (entry,) = json.loads(found["index.json"])["manifests"]
        assert entry["annotations"] == {"io.containerd.image.name": "localhost/serve:1"}
        manifest = json.loads(found[f"blobs/{entry['digest'].replace(':', '/')}"])
        assert [layer["digest"] for layer in manifest["layers"]] == [f"sha256:{digest}" for digest in digests]
        assert found[f"blobs/sha256/{digests[1]}"] == b"members"
        assert f"blobs/sha256/{digests[0]}" not in found
        assert {hashlib.sha256(text).hexdigest() for name, text in found.items() if "/" in name} == {
            name.rpartition("/")[2] for name in found if "/" in name
        }


class TestLoad:
    def test_says_when_there_is_no_file(self, layout: Layout) -> None:
        with pytest.raises(CliError, match="no file"):
            load(layout.run / "none.tar", layout)

    def test_says_when_no_cluster_runs(self, layout: Layout) -> None:
        (layout.run / "some.tar").touch()
        with pytest.raises(CliError) as failure:
            load(layout.run / "some.tar", layout)
        assert "make cluster-up" in (failure.value.hint or "")
