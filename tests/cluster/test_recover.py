"""What is taken off is ours, and all of ours."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from localcluster import recover
from localcluster.paths import Layout
from localcluster.recover import mounts_below, removal

NAT = r"""*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-0123456789abcdef01234567 - [0:0]
:CNI-fedcba9876543210fedcba98 - [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"chatbot-cluster\" id: \"5f2a\"" -j CNI-0123456789abcdef01234567
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"77aa\"" -j CNI-fedcba9876543210fedcba98
-A CNI-0123456789abcdef01234567 -d 10.244.0.0/24 -m comment --comment "name: \"chatbot-cluster\" id: \"5f2a\"" -j ACCEPT
-A CNI-0123456789abcdef01234567 ! -d 224.0.0.0/4 -m comment --comment "name: \"chatbot-cluster\" id: \"5f2a\"" -j MASQUERADE
-A CNI-fedcba9876543210fedcba98 -d 10.88.0.0/16 -m comment --comment "name: \"podman\" id: \"77aa\"" -j ACCEPT
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -j KUBE-SVC-TCOU7JCQXEZGVUNU
COMMIT
"""  # noqa: E501 - as iptables-save prints it

MOUNTS = """\
24 1 254:1 / / rw - ext4 /dev/root rw
40 24 0:40 / /srv/chatbot-operator/run/containerd/state/rootfs rw shared:1 - overlay overlay rw
41 40 0:41 / /srv/chatbot-operator/run/containerd/state/rootfs/proc rw - proc proc rw
42 24 0:42 / /srv/chatbot-operator/run/volumes/with\\040space rw - tmpfs tmpfs rw
43 24 0:43 / /srv/chatbot-operator/run-of-somebody rw - tmpfs tmpfs rw
44 24 0:44 / /srv/chatbot-operator/images rw - tmpfs tmpfs rw
"""


class TestRemoval:
    def test_takes_our_rules_and_leaves_those_of_others(self) -> None:
        lines = removal("nat", NAT).splitlines()
        assert lines == [
            "*nat",
            ":CNI-0123456789abcdef01234567 - [0:0]",
            ":KUBE-SERVICES - [0:0]",
            ":KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]",
            '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            '-D POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \\"chatbot-cluster\\" id: \\"5f2a\\""'
            " -j CNI-0123456789abcdef01234567",
            "-X CNI-0123456789abcdef01234567",
            "-X KUBE-SERVICES",
            "-X KUBE-SVC-TCOU7JCQXEZGVUNU",
            "COMMIT",
        ]

    @pytest.mark.parametrize("saved", ["", "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"])
    def test_does_nothing_where_nothing_is(self, saved: str) -> None:
        assert removal("nat", saved) == ""

    def test_the_firewall_takes_the_script(self) -> None:
        """In a network namespace of its own, so that no rule of this machine is at risk."""
        unshare = ["unshare", "--net", "--map-root-user", "--user"]
        probe = [*unshare, "iptables-save"]
        if shutil.which("iptables-save") is None or subprocess.run(probe, check=False).returncode:  # noqa: S603
            pytest.skip("iptables or network namespaces are not to be had")
        script = (
            f"iptables-restore <<'X'\n{NAT}X\n"
            f"iptables-restore --noflush <<'X'\n{removal('nat', NAT)}X\n"
            "iptables-save -t nat"
        )
        result = subprocess.run([*unshare, "sh", "-ec", script], capture_output=True, text=True, check=True)  # noqa: S603
        assert "KUBE-" not in result.stdout
        assert "chatbot-cluster" not in result.stdout
        assert "podman" in result.stdout
        assert "-j DOCKER" in result.stdout


class TestMountsBelow:
    def test_the_youngest_first_and_only_ours(self) -> None:
        run = Path("/srv/chatbot-operator/run")
        assert mounts_below(run, MOUNTS) == [
            f"{run}/volumes/with space",
            f"{run}/containerd/state/rootfs/proc",
            f"{run}/containerd/state/rootfs",
        ]


class TestKillContainers:
    def test_goes_on_while_cgroups_vanish(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As a container's does when its last process has ended, which is what is waited for."""
        pods = tmp_path / "pods"
        pods.mkdir()
        monkeypatch.setattr(recover.node, "cgroups", lambda: [tmp_path])

        def come_and_go() -> None:
            for pod in (pods / str(number) for number in range(1_000)):
                pod.mkdir()
                (pod / "cgroup.procs").touch()
                shutil.rmtree(pod)

        coming = threading.Thread(target=come_and_go)
        coming.start()
        while coming.is_alive():
            assert recover.kill_containers() == 0
        coming.join()


class TestOwner:
    @pytest.fixture(autouse=True)
    def owner(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setattr(recover, "OWNER", tmp_path / "owner")
        return tmp_path / "owner"

    def test_a_living_cluster_of_another_home_is_left_alone(self, layout: Layout, tmp_path: Path) -> None:
        other = tmp_path / "other" / "run"
        recover.OWNER.write_text(f"{other}\n")
        command = [
            sys.executable,
            "-c",
            "import time; print('here', flush=True); time.sleep(60)",
            f"--root-dir={other}/",
        ]
        with subprocess.Popen(["bash", "-c", 'exec -a kubelet "$@"', "-", *command], stdout=subprocess.PIPE) as living:  # noqa: S603, S607
            assert living.stdout is not None
            assert living.stdout.readline() == b"here\n"
            with pytest.raises(CliError, match="Another cluster") as failure:
                recover.refuse_another(layout)
            living.kill()
        assert str(other.parent) in (failure.value.hint or "")
