"""Where the cluster lives, and what it says when it cannot live there."""

from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster import control_plane, paths


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "node_ip", lambda: "10.0.0.5")
    monkeypatch.delenv(paths.API_PORT_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("CHATBOT_CLUSTER_HOME", str(tmp_path))


class TestHome:
    def test_is_where_it_is_said_to_be(self, tmp_path: Path) -> None:
        assert paths.home() == tmp_path

    def test_is_in_the_users_cache_otherwise(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("CHATBOT_CLUSTER_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert paths.home() == tmp_path / ".cache" / "chatbot-operator"
        monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
        assert paths.home() == Path("/var/cache/chatbot-operator")


class TestThisMachine:
    def test_lies_below_the_home(self, tmp_path: Path) -> None:
        layout = paths.this_machine()
        assert layout.kubeconfig == tmp_path / "run" / "admin.kubeconfig"
        assert layout.bin == tmp_path / "bin"
        assert layout.server == "https://127.0.0.1:6443"

    @pytest.mark.parametrize("home", ["/tmp/" + "x" * 100, "/tmp/with space", '/tmp/a"b', "/tmp/$HOME"])  # noqa: S108
    def test_refuses_a_path_its_programs_do_not_take(self, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
        monkeypatch.setenv("CHATBOT_CLUSTER_HOME", home)
        with pytest.raises(CliError) as failure:
            paths.this_machine()
        assert "CHATBOT_CLUSTER_HOME" in (failure.value.hint or "")

    @pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
    def test_refuses_what_is_no_port(self, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
        monkeypatch.setenv(paths.API_PORT_VARIABLE, port)
        with pytest.raises(CliError, match="no port"):
            paths.this_machine()

    def test_finds_the_port_of_the_cluster_that_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / paths.API_PORT_FILE).write_text("7443\n")
        assert paths.this_machine().api_port == 7443
        monkeypatch.setenv(paths.API_PORT_VARIABLE, "8443")
        assert paths.this_machine().api_port == 8443


def test_the_layout_is_part_of_the_control_planes_face() -> None:
    assert control_plane.Layout is paths.Layout
