"""High availability: replicas of the operator in (hand-made) pods, each on its own way to a real API server.

How one replica behaves is in test_leader.py and test_process.py; here several of them meet, with the chart's rights and
its fencing policy.
"""

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from chatbot_operator.faults import FENCED

from tests.chart.helm import find_helm
from tests.operator.processes import Operator, as_account, operator
from tests.operator.running import BOT
from tests.operator.test_process import Bot
from tests.support.apiserver import ApiServer, path, wait_for
from tests.support.misbehaviour import Hold, hang
from tests.support.proxy import WRITES, Way, proxy

pytestmark = pytest.mark.timeout(180)

LEASE = {"duration": 6, "renew": 1}
SAFE_SECONDS = 4.0
REPLICAS = 4
"""Each test uses up one."""
SECONDS = 30.0
"""Asked for with a Lease of 15 seconds; here it has 6."""


@dataclass
class Replica:
    process: Operator
    way: Way

    def written(self, since: float) -> list[int]:
        """Codes of the answers to what it tried to write, other than to lead."""
        tried = [one for one in self.way.seen if one.at >= since and one.verb in WRITES]
        return [one.code for one in tried if "/leases/" not in one.path and "/serviceaccounts/" not in one.path]


@dataclass
class Replicas:
    bot: Bot
    system: str
    all: list[Replica]

    def leader(self) -> Replica:
        def leads() -> Replica | None:
            running = [one for one in self.all if one.process.process.poll() is None]
            return next((one for one in running if one.process.leads()), None)

        return wait_for("a leader", leads, SECONDS)

    def taken_over(self, old: Replica, how: str) -> None:
        """Waits for the next leader; `old` may be stopped, and then does not answer."""
        others = [one for one in self.all if one is not old and one.process.process.poll() is None]
        began = time.monotonic()
        wait_for("another leader", lambda: any(one.process.leads() for one in others), SECONDS)
        print(f"leader {how}, another leads after {time.monotonic() - began:.1f} s")


@pytest.fixture(scope="module")
def replicas(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Installed by the chart, as far as the API server is concerned."""
    bot, system = Bot(api_server), api_server.namespace()
    install(api_server, system)
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(REPLICAS):
            name, folder = f"operator-{number}", tmp_path_factory.mktemp("replica")
            kubeconfig = as_account(api_server, pod_token(api_server, system, name), folder)
            way = stack.enter_context(proxy(api_server, folder, kubeconfig))
            process = operator(
                api_server,
                folder,
                bot.namespace,
                name,
                kubeconfig=way.kubeconfig,
                lease=LEASE | {"namespace": system, "account": system},
            )
            made.append(Replica(stack.enter_context(process), way))
        yield Replicas(bot, system, made)


def install(api_server: ApiServer, system: str) -> None:
    objects = find_helm().template(fullnameOverride=system, crds__enabled=False)
    left_out = ("Deployment", "Service", "ConfigMap")
    wanted = yaml.safe_dump_all([item for item in objects if item["kind"] not in left_out])
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin=wanted.replace("chatbot-system", system))


def pod_token(api_server: ApiServer, system: str, name: str) -> str:
    """As the kubelet gets it for a pod: the API server knows from it who asks."""
    container = {"name": "operator", "image": "chatbot-operator:0.1.0"}
    pod = api_server.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"serviceAccountName": system, "containers": [container]},
        },
        system,
    )
    bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
    where = path("ServiceAccount", system, system)
    return str(api_server.request("POST", f"{where}/token", request)["status"]["token"])


def edit(bot: Bot, image: str) -> None:
    bot.edit({"images": {"postgres": image}})


def applied(bot: Bot, image: str) -> bool:
    live = bot.api.get("StatefulSet", bot.namespace, f"{BOT}-postgres")
    return live is not None and live["spec"]["template"]["spec"]["containers"][0]["image"] == image


class TestFrozen:
    def test_between_its_check_and_its_write_and_the_api_server_refuses_that_write(self, replicas: Replicas) -> None:
        bot, old, hold = replicas.bot, replicas.leader(), Hold()
        bot.create({"profile": "Dev", "images": {"postgres": "postgres:1"}})
        wait_for("it to be made", lambda: applied(bot, "postgres:1"))
        old.way.rule(hold, "PATCH", path="/statefulsets/harbour-postgres")
        edit(bot, "postgres:late")
        assert hold.held.wait(SECONDS)
        old.process.process.send_signal(signal.SIGSTOP)
        edit(bot, "postgres:2")
        replicas.taken_over(old, "frozen")
        wait_for("the new leader to act", lambda: applied(bot, "postgres:2"))
        hold.let()
        wait_for("the late write to be answered", lambda: hold.codes)
        assert hold.codes == [403]
        assert FENCED in hold.bodies[0]
        thawed = time.monotonic()
        old.process.process.send_signal(signal.SIGCONT)
        assert old.process.process.wait(10) == 1
        assert "the Lease is lost" in old.process.said()
        assert set(old.written(thawed)) <= {0, 403}
        assert applied(bot, "postgres:2")


class TestGone:
    @pytest.mark.parametrize("how", ["killed", "cut off"])
    def test_the_leader_is_replaced(self, replicas: Replicas, how: str) -> None:
        bot, old = replicas.bot, replicas.leader()
        if not bot.api.get("ChatbotDeployment", bot.namespace, BOT):
            bot.create()
        began = time.monotonic()
        if how == "killed":
            old.process.stop(signal.SIGKILL)
        else:
            old.way.rule(hang, path="/")
            assert old.process.process.wait(SAFE_SECONDS + 2) == 1
        edit(bot, how.replace(" ", "-"))
        replicas.taken_over(old, how)
        wait_for("the new leader to act", lambda: applied(bot, how.replace(" ", "-")))
        assert set(old.written(began)) <= {0}
