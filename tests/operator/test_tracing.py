"""One span per reconcile that did something, as a real receiver gets it over a socket."""

import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatbot_operator import tracing
from chatbot_operator.faults import Unavailable
from chatbot_operator.process import RULES
from chatbot_operator.reconcile import Reconciler
from chatbot_operator.referrers import Referrers
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from tests.operator.processes import operator
from tests.operator.running import BOT, SETTINGS, World
from tests.support.apiserver import ApiServer, wait_for
from tests.support.otlp import OtlpReceiver, ReceivedSpan
from tests.support.serving import free_port, in_thread


@pytest.fixture
def receiver() -> OtlpReceiver:
    return OtlpReceiver()


@pytest.fixture
def url(receiver: OtlpReceiver) -> Iterator[str]:
    with in_thread(receiver.app) as url:
        yield url


@pytest.fixture
def sending(url: str) -> TracerProvider:
    return tracing.provider(SETTINGS.model_copy(update={"otlp_endpoint": url}), "operator-0")


def reconciler(world: World, sending: TracerProvider) -> Reconciler:
    tracer = sending.get_tracer("test")
    return Reconciler(world.cluster, SETTINGS, world.metrics, Referrers(), RULES, tracer=tracer)


def roots(receiver: OtlpReceiver) -> list[ReceivedSpan]:
    return [span for span in receiver.spans if not span.parent_id]


class TestSpans:
    async def test_tell_what_a_reconcile_did(
        self, world: World, receiver: OtlpReceiver, sending: TracerProvider
    ) -> None:
        world.create_bot({"profile": "Dev"})
        await reconciler(world, sending)(world.key)
        tracing.close(sending)
        [span] = roots(receiver)
        assert (span.service, span.name) == ("chatbot-operator", "reconcile")
        about = {"namespace": world.namespace, "bot": BOT}
        assert span.attributes == about | {"result": "changed", "writes": str(world.writes())}
        below = {child.name: child for child in receiver.spans if child.parent_id == span.span_id}
        assert below["stores"].attributes["writes"] != "0"
        assert {child.trace_id for child in below.values()} == {span.trace_id}

    async def test_of_a_reconcile_that_did_nothing_there_are_none(
        self, world: World, receiver: OtlpReceiver, sending: TracerProvider
    ) -> None:
        world.create_bot({"profile": "Dev"})
        work = reconciler(world, NoOpTracerProvider())
        writes = -1
        while world.writes() != writes:
            writes = world.writes()
            await work(world.key)
        await reconciler(world, sending)(world.key)
        tracing.close(sending)
        assert world.writes() == writes
        assert receiver.spans == []

    async def test_a_reconcile_that_broke_off_is_an_error(
        self, world: World, receiver: OtlpReceiver, sending: TracerProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.create_bot({"profile": "Dev"})
        left = 12
        apply = world.cluster.apply

        async def breaking(*given: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                raise Unavailable("the connection is lost")
            return await apply(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(world.cluster, "apply", breaking)
        with pytest.raises(Unavailable):
            await reconciler(world, sending)(world.key)
        tracing.close(sending)
        [span] = roots(receiver)
        assert span.attributes["result"] == "error"
        assert int(span.attributes["writes"]) >= 11

    async def test_have_no_secret_in_them(self, world: World, receiver: OtlpReceiver, sending: TracerProvider) -> None:
        world.create_bot({"profile": "Dev"})
        await reconciler(world, sending)(world.key)
        tracing.close(sending)
        said = repr(receiver.spans)
        secrets = [value for item in world.api.list("Secret", world.namespace) for value in item["data"].values()]
        assert len(secrets) > 5
        assert not [value for value in secrets if value in said or b64decode(value).decode() in said]


class TestProcess:
    def test_sends_them_where_the_chart_says(
        self, api_server: ApiServer, tmp_path: Path, receiver: OtlpReceiver, url: str
    ) -> None:
        namespace = api_server.namespace()
        with operator(api_server, tmp_path, namespace, otlp_endpoint=url) as process:
            process.wait_ready()
            body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
            api_server.create(body | {"metadata": {"name": BOT}, "spec": {"profile": "Dev"}}, namespace)
            wait_for("a span", lambda: roots(receiver))
            assert roots(receiver)[0].attributes["bot"] == BOT

    def test_ends_in_time_although_nobody_takes_them(self, api_server: ApiServer, tmp_path: Path) -> None:
        namespace = api_server.namespace()
        nobody = f"http://127.0.0.1:{free_port()}"
        with operator(api_server, tmp_path, namespace, otlp_endpoint=nobody) as process:
            process.wait_ready()
            body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment"}
            api_server.create(body | {"metadata": {"name": BOT}, "spec": {"profile": "Dev"}}, namespace)
            wait_for("work", lambda: process.writes() > 0)
            began = time.monotonic()
            assert process.stop() == 0
            assert time.monotonic() - began < 20

    def test_who_sends_none_does_not_carry_what_sends_them(self) -> None:
        program = (
            "import sys\n"
            "from chatbot_operator import process, tracing\n"
            "from tests.operator.running import SETTINGS\n"
            "tracing.provider(SETTINGS, 'operator-0').get_tracer('a').start_span('b').end()\n"
            "sys.exit('opentelemetry.sdk' in sys.modules)"
        )
        path = [str(Path(__file__).parents[2]), *sys.path]
        command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"]
        assert subprocess.run(command, check=False, timeout=60).returncode == 0  # noqa: S603 - our own
