"""One bot on a bare laptop, from `chatbot up` to `chatbot down`. The tests build on each other, in this order."""

import json
import re
import signal
import time

import openai
import psutil
import pytest
from chatbot_common.ids import uuid7

from tests.e2e.conftest import Laptop
from tests.support.otlp import ReceivedSpan

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("laptop")]

QUESTION = "When are you open?"


def register(laptop: Laptop, email: str = "ada@example.com") -> str:
    """Access token of a new account."""
    with laptop.client() as client:
        body = {"email": email, "password": "correct horse battery"}
        response = client.post("/api/v1/auth/register", json=body)
        assert response.status_code == 201, response.text
        token: str = response.json()["access_token"]
        return token


def process(laptop: Laptop, name: str) -> psutil.Process:
    state = json.loads((laptop.home / "tester" / "state.json").read_text())
    return psutil.Process(state["processes"][name]["process"]["pid"])


class TestFirstMinute:
    def test_the_link_signs_in_once(self, laptop: Laptop) -> None:
        printed = laptop.up().stdout
        found = re.search(r"#/sign-in\?token=(\S+)", printed)
        assert found, printed
        with laptop.client() as client:
            first = client.post("/api/v1/auth/link", json={"token": found[1]})
            second = client.post("/api/v1/auth/link", json={"token": found[1]})
            me = client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {first.json()['access_token']}"})
        assert first.status_code == 200
        assert second.status_code in (400, 401, 404)
        assert me.json()["role"] == "admin"

    def test_the_page_and_the_documentation(self, laptop: Laptop) -> None:
        with laptop.client() as client:
            page = client.get("/")
            docs = client.get("/docs")
            paths = client.get("/openapi.json").json()["paths"]
        assert (page.status_code, docs.status_code) == (200, 200)
        assert "/api/v1/chat/send" in paths
        assert "/v1/chat/completions" in paths
        assert "/api/v1/auth/register" in paths
        assert not any(path.startswith("/internal") for path in paths)

    def test_internal_routes_stay_inside(self, laptop: Laptop) -> None:
        with laptop.client(laptop.token()) as client:
            assert client.post("/internal/turns", json={}).status_code == 404


class TestChatting:
    def test_knowledge_answers_with_citations(self, laptop: Laptop) -> None:
        with laptop.client(register(laptop)) as client:
            body = client.post("/api/v1/chat/send", json={"content": QUESTION}).json()
            assert body["content"].startswith("We are open from 9 to 17")
            assert body["citations"][0]["title"] == "What are your opening hours?"
            messages = client.get(f"/api/v1/conversations/{body['conversation_id']}/messages").json()["data"]
        assert [message["role"] for message in messages] == ["user", "assistant"]

    def test_the_official_sdk(self, laptop: Laptop) -> None:
        with openai.OpenAI(base_url=f"{laptop.url}/v1", api_key=laptop.token()) as sdk:
            assert sdk.models.list().data[0].id == "tester"
            answer = sdk.chat.completions.create(model="tester", messages=[{"role": "user", "content": QUESTION}])
            assert (answer.choices[0].message.content or "").startswith("We are open")
            stream = sdk.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text.strip() == "You said: Hi"

    def test_in_the_terminal(self, laptop: Laptop) -> None:
        assert "We are open from 9 to 17" in laptop.chatbot("chat", QUESTION).stdout

    def test_someone_elses_conversation_is_a_404(self, laptop: Laptop) -> None:
        with laptop.client(register(laptop, "bob@example.com")) as bob:
            mine = bob.post("/api/v1/chat/send", json={"content": QUESTION}).json()["conversation_id"]
        with laptop.client(register(laptop, "eve@example.com")) as eve:
            assert eve.get(f"/api/v1/conversations/{mine}").status_code == 404


class TestTrace:
    async def test_one_request_is_one_trace(self, laptop: Laptop) -> None:
        trace_id = uuid7().hex
        headers = {"traceparent": f"00-{trace_id}-{'1' * 16}-01"}
        with laptop.client(laptop.token()) as client:
            body = {"content": QUESTION, "model": "echo"}
            answer = client.post("/api/v1/chat/send?why=secret", json=body, headers=headers)
        assert answer.status_code == 200
        assert re.findall(r"(\w+);dur=[\d.]+", answer.headers["server-timing"]) == ["chat", "provider", "gw"]
        spans = await laptop.otlp.wait_for(trace_id, {"gateway", "chat", "conversation", "conversation-worker"})
        chain = [
            ("gateway", 2, "POST /api/v1/chat/{path}"),
            ("gateway", 3, "POST"),
            ("chat", 2, "POST /api/v1/chat/send"),
            ("chat", 3, "POST"),
            ("conversation", 2, "POST /internal/turns"),
        ]
        assert follows(spans, chain), describe(spans)
        assert has(spans, "gateway", 3, "redis"), describe(spans)
        assert has(spans, "chat", 3, "redis"), describe(spans)
        agent = [*chain[:3], ("chat", 1, "invoke_agent tester")]
        assert follows(spans, [*agent, ("chat", 3, "chat echo")]), describe(spans)
        stored = ("conversation", 2, "PUT /internal/turns/{turn_id}/reply")
        assert follows(spans, [*agent, ("chat", 3, "PUT"), stored]), describe(spans)
        assert has_name(spans, "conversation-worker", "embeddings all-MiniLM-L6-v2"), describe(spans)
        assert has(spans, "conversation", 3, "postgresql"), describe(spans)
        looked = [*chain, ("conversation", 1, "retrieval knowledge")]
        assert follows(spans, [*looked, ("conversation", 3, "embeddings all-MiniLM-L6-v2")]), describe(spans)
        ids = {span.span_id for span in spans} | {"1" * 16}
        assert all(span.parent_id in ids for span in spans), describe(spans)
        said = describe(spans)
        assert not [word for word in (QUESTION, "You said", "9 to 17", "eyJ", "Bearer", "why=") if word in said]


def follows(spans: list[ReceivedSpan], chain: list[tuple[str, int, str]]) -> bool:
    """Whether there is a line of spans, each the child of the one before, with these services, kinds and names."""
    parents = {"1" * 16}
    for service, kind, name in chain:
        parents = {
            span.span_id
            for span in spans
            if (span.service, span.kind) == (service, kind) and span.name.startswith(name) and span.parent_id in parents
        }
    return bool(parents)


def has(spans: list[ReceivedSpan], service: str, kind: int, system: str) -> bool:
    """Whether the service has a span of this kind that talks to this system."""
    named = ("db.system", "db.system.name", "gen_ai.provider.name", "gen_ai.system")
    return any(
        (span.service, span.kind) == (service, kind)
        and any(span.attributes.get(key, "").startswith(system) for key in named)
        for span in spans
    )


def has_name(spans: list[ReceivedSpan], service: str, name: str) -> bool:
    return any((span.service, span.name) == (service, name) for span in spans)


def describe(spans: list[ReceivedSpan]) -> str:
    return "\n".join(
        f"{span.service} {span.kind} {span.name} {span.parent_id} → {span.span_id} {span.attributes} {span.words}"
        for span in spans
    )


class TestKilledService:
    def test_is_seen_and_brought_back(self, laptop: Laptop) -> None:
        killed = process(laptop, "chat")
        killed.send_signal(signal.SIGKILL)
        psutil.wait_procs([killed], timeout=5)
        with laptop.client(laptop.token()) as client:
            health = client.get("/health/all")
            refused = client.post("/api/v1/chat/send", json={"content": "Hi"})
        assert health.status_code == 503
        assert health.json()["services"]["chat"]["status"] != "ok"
        assert health.json()["services"]["auth"]["status"] == "ok"
        assert refused.status_code in (502, 503)
        assert "chat" in refused.json()["detail"]
        status = laptop.chatbot("status", check=False)
        assert status.returncode == 1
        others = process(laptop, "gateway").pid
        laptop.up()
        assert process(laptop, "gateway").pid == others
        assert laptop.chatbot("status").returncode == 0

    def test_a_second_up_changes_nothing(self, laptop: Laptop) -> None:
        before = {name: process(laptop, name).pid for name in ("gateway", "auth", "chat", "conversation", "worker")}
        began = time.monotonic()
        laptop.up()
        assert time.monotonic() - began < 30
        assert {name: process(laptop, name).pid for name in before} == before


class TestRestart:
    def test_what_was_said_is_still_there(self, laptop: Laptop) -> None:
        with laptop.client(laptop.token()) as client:
            said = client.post("/api/v1/chat/send", json={"content": "Remember me"}).json()["conversation_id"]
        laptop.chatbot("down")
        with pytest.raises(openai.APIConnectionError), openai.OpenAI(base_url=laptop.url, api_key="x") as sdk:
            sdk.with_options(max_retries=0).models.list()
        laptop.up()
        with laptop.client(laptop.token()) as client:
            found = client.get(f"/api/v1/conversations/{said}/messages").json()["data"]
        assert found[0]["text"] == "Remember me"


class TestBadInput:
    def test_an_unknown_field_is_named_with_its_line(self, laptop: Laptop) -> None:
        bad = laptop.resource.with_name("bad.yaml")
        bad.write_text(laptop.resource.read_text().replace("perMinute", "perMinut"))
        done = laptop.chatbot("up", "-f", str(bad), check=False)
        said = done.stdout + done.stderr
        line = next(i for i, text in enumerate(bad.read_text().splitlines(), 1) if "perMinut" in text)
        assert done.returncode != 0
        assert f"bad.yaml:{line}" in said
        assert "perMinut" in said

    def test_a_busy_port_names_the_way_out(self, laptop: Laptop) -> None:
        other = laptop.resource.with_name("other.yaml")
        other.write_text(laptop.resource.read_text().replace("name: tester", "name: other"))
        done = laptop.chatbot("up", "-f", str(other), "--port", str(laptop.port), check=False)
        assert done.returncode != 0
        assert f"Port {laptop.port} is in use" in done.stdout + done.stderr
        assert "--port" in done.stdout + done.stderr
