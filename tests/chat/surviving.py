"""Two replicas of chat as processes, on stores that a test may take away, and what must be true after whatever befell
them: no message lost, none doubled, every run ended, budgets as the ledger has them, nothing left behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
import httpx2
from chatbot_chat.settings import Settings
from chatbot_common.ids import uuid7
from prometheus_client.parser import text_string_to_metric_families

from tests.chat.running import Chat, parse_sse
from tests.conversation.running import eventually
from tests.support.identity import Keys
from tests.support.model_server import ModelServer
from tests.support.patience import within
from tests.support.serving import free_port
from tests.support.stores import Postgres, Valkey

PATIENCE = 60
"""Seconds for what must happen."""
TOGETHER = 20
"""Questions that are looked at once."""
LIMIT = 1_000_000
"""Tokens that a user may spend in a day."""
NONE = dict.fromkeys(("tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month"))
BUDGETS = {
    "per_user": NONE | {"tokens_per_day": LIMIT},
    "total": NONE | {"tokens_per_month": 10**12},
    "currency": "EUR",
}
MODERATION = {"input": "Block", "output": "Block", "provider": None, "rules_file": None}
SECRETS = ("service_private_key", "redis_url")
TOOLS = """
import asyncio
import json


class Order:
    name, description, side_effects = "order", "Orders something.", True
    parameters = {"type": "object", "properties": {"what": {"type": "string"}}}

    async def run(self, arguments):
        return f"Ordered {arguments['what']}."


class Nap:
    name, description, side_effects = "nap", "Takes long.", False
    parameters = {"type": "object", "properties": {}}

    async def run(self, arguments):
        await asyncio.sleep(25)
        return "Awake."


class Tasks:
    name, description, side_effects = "tasks", "Names the tasks of this process.", False
    parameters = {"type": "object", "properties": {}}

    async def run(self, arguments):
        return json.dumps([getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()])
"""


def installed(folder: Path) -> Path:
    """A package of plug-ins, as pip would install it."""
    (folder / "napping-1.dist-info").mkdir(parents=True)
    (folder / "napping.py").write_text(TOOLS)
    (folder / "napping-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: napping\nVersion: 1\n")
    points = "[chatbot.tools]\norder = napping:Order\nnap = napping:Nap\ntasks = napping:Tasks\n"
    (folder / "napping-1.dist-info" / "entry_points.txt").write_text(points)
    return folder


def bounded(told: dict[str, Any]) -> dict[str, Any]:
    """With budgets, moderation, tools, and a model of which an answer costs more than there is."""
    huge = told["models"][-1] | {"name": "huge", "context_window": 10**8, "max_output_tokens": 10**7}
    tools = told["tools"] | {"enabled": ["calculator", "order", "nap", "tasks"]}
    models = [*told["models"], huge]
    # Each model has a provider of its own: with one of them others would be left alone, too.
    told_of = {item["name"]: item for item in told["providers"]}
    providers = [told_of[model["deployments"][0]["provider"]] | {"name": model["name"]} for model in models]
    models = [model | {"deployments": [model["deployments"][0] | {"provider": model["name"]}]} for model in models]
    return told | {
        "providers": providers,
        "models": models,
        "tools": tools,
        "budgets": BUDGETS,
        "moderation": MODERATION,
        "provider_keys": {model["name"]: "sk-test" for model in models},
    }


class Replica:
    """`python -m chatbot_chat`, started the way the operator and the command line start it."""

    def __init__(self, told: dict[str, Any], folder: Path, plugins: Path) -> None:
        self.listen = {"host": "127.0.0.1", "port": free_port(), "private_port": free_port()}
        (folder / "secrets" / "provider_keys").mkdir(parents=True)
        for name in SECRETS:
            (folder / "secrets" / name).write_text(told[name] + "\n")
        for name, key in told["provider_keys"].items():
            (folder / "secrets" / "provider_keys" / name).write_text(key)
        public = {key: value for key, value in told.items() if key not in (*SECRETS, "provider_keys")}
        (folder / "config.json").write_text(json.dumps(public | {"listen": self.listen, "drain_seconds": 3}))
        self._environment = os.environ | {
            "CHATBOT_CONFIG": str(folder / "config.json"),
            "CHATBOT_SECRETS": str(folder / "secrets"),
            "PYTHONPATH": f"{plugins}:{os.environ.get('PYTHONPATH', '')}",
        }
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listen['port']}"

    def start(self) -> None:
        """Unless it runs."""
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "chatbot_chat"]
                self.process = subprocess.Popen(command, env=self._environment, stdout=log)  # noqa: S603

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def logged(self) -> str:
        return self.log.read_text()

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@dataclass
class Asked:
    """A question of a user of its own, and what they have heard of the answer."""

    question: str
    model: str
    user: UUID = field(default_factory=uuid7)
    name: str = field(default_factory=lambda: str(uuid7()))
    seen: list[dict[str, Any]] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return str(self.seen[0]["run_id"])

    @property
    def last(self) -> str:
        return str(self.seen[-1]["type"])

    async def listen(self, chat: Chat, **more: Any) -> None:
        """Until the end, or until the connection breaks off."""
        told = {"model": self.model, "client_message_id": self.name} | self.body | more
        with contextlib.suppress(httpx2.TransportError):
            async with chat.streaming(self.user, self.question, **told) as events:
                async for event in events:
                    self.seen.append(event)

    async def heard(self, kind: str) -> None:
        async def there() -> bool:
            return any(event["type"] == kind for event in self.seen)

        await eventually(there, PATIENCE)

    def shown(self) -> str:
        """The text of the newest attempt, as a client shows it."""
        text = ""
        for event in self.seen:
            if event["type"] == "run.started":
                text = ""
            elif event["type"] == "text.delta":
                text += event["text"]
            elif event["type"] in ("run.snapshot", "text.replaced"):
                text = event["text"]
        return text


@dataclass
class World:
    here: Replica
    there: Replica
    redis: Valkey
    postgres: Postgres
    database: str
    conversation_url: str
    model: ModelServer
    keys: Keys
    settings: Settings

    @contextlib.asynccontextmanager
    async def chats(self) -> AsyncIterator[tuple[Chat, Chat]]:
        """Both replicas, answering."""
        for replica in (self.here, self.there):
            replica.start()
        async with contextlib.AsyncExitStack() as stack:
            found = []
            for replica in (self.here, self.there):
                client = await stack.enter_async_context(httpx2.AsyncClient(base_url=replica.url, timeout=90))
                await eventually(partial(_answers, client), PATIENCE)
                found.append(Chat(client, self.keys, self.settings))
            yield found[0], found[1]

    @contextlib.asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.database.replace("+asyncpg", ""))
        try:
            yield connection
        finally:
            await connection.close()

    async def expire(self, *asked: Asked) -> None:
        """As if the leases of their runs had not been renewed for a while."""
        past = "UPDATE turns SET leased_until = now() - interval '1 second' WHERE user_id = ANY($1)"
        async with self.sql() as sql:
            await sql.execute(past + " AND state = 'running'", [item.user for item in asked])

    async def all_is_well(self, chat: Chat, asked: Sequence[Asked], *, doubted: bool = False) -> None:
        """After a fault, seen from a replica that lives.

        Args:
            doubted: a process died: who listened may have heard some words that were not stored any more.
        """
        for item in asked:
            await self._is_stored(chat, item, doubted)
        await eventually(lambda: self.budgets_are_right(chat, asked), PATIENCE)
        await eventually(self._nothing_left, PATIENCE)

    async def budgets_are_right(self, chat: Chat, asked: Sequence[Asked]) -> bool:
        """Whether everybody has left what the ledger leaves them: nothing is held, nor uncounted, nor counted twice."""
        spent = Counter[UUID]()
        for row in await self.ledger(*(item.user for item in asked)):
            spent[row["user_id"]] += row["tokens"]
        # Not all at once: each asks the ledger, and who waits too long there is let through unchecked.
        for some in (asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER)):
            if not all(await asyncio.gather(*(left(chat, item.user, LIMIT - spent[item.user]) for item in some))):
                return False
        return True

    async def _is_stored(self, chat: Chat, item: Asked, doubted: bool) -> None:
        async with within(60):
            while (view := await chat.run(item.user, item.run_id))["state"] in ("running", "requires_action"):
                await asyncio.sleep(0.1)
        url = f"{self.conversation_url}/api/v1/conversations/{view['conversation_id']}/messages"
        found = (await chat.client.get(url, headers=self.keys.bearer(item.user))).json()["data"]
        *_, question, reply = found
        assert len(found) == len({message["parent_id"] for message in found}), found
        assert (question["text"], reply["parent_id"]) == (item.question, question["id"])
        shown, stored = item.shown(), reply["text"]
        assert stored.startswith(shown) or (doubted and shown.startswith(stored)), (shown, stored)
        for attempt in {event["attempt"] for event in item.seen}:
            numbers = [event["seq"] for event in item.seen if event["attempt"] == attempt]
            assert numbers == list(range(1, len(numbers) + 1))
        if reply["status"] == "completed":
            rows = [row for row in await self.ledger(item.user) if str(row["run_id"]) == item.run_id]
            counted = sum(row["tokens"] for row in rows if not row["estimated"])
            assert counted == reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"], (rows, reply)

    async def footprint(self, chat: Chat) -> tuple[int, Counter[str]]:
        """Of a replica that has nothing to do: its open files, connections among them, and its tasks by name."""
        replica = next(item for item in (self.here, self.there) if str(chat.client.base_url).startswith(item.url))
        asked = Asked(json.dumps([[["tasks", {}]]]), "agent")
        await asked.listen(chat)
        told = next(event["content"] for event in asked.seen if event["type"] == "tool.finished")
        async with httpx2.AsyncClient() as client:
            found = await client.get(f"http://127.0.0.1:{replica.listen['private_port']}/metrics")
        return int(sample(found.text, "process_open_fds")), services(json.loads(told))

    async def nothing_is_left(self, chat: Chat, before: tuple[int, Counter[str]], *, files: int) -> bool:
        """Whether a replica has no task that it had not `before`, and as many `files` more at most."""
        now = await self.footprint(chat)
        return now[0] <= before[0] + files and not now[1] - before[1]

    async def ledger(self, *users: UUID) -> list[Any]:
        query = "SELECT user_id, run_id, attempt, input_tokens + output_tokens AS tokens, estimated FROM ledger"
        async with self.sql() as sql:
            return list(await sql.fetch(query + " WHERE user_id = ANY($1)", users))

    async def _nothing_left(self) -> bool:
        """No run, no provider that is listened to, no connection to Postgres in use."""
        async with httpx2.AsyncClient() as client:
            for replica in (self.here, self.there):
                if replica.process and replica.process.poll() is None:
                    found = await client.get(f"http://127.0.0.1:{replica.listen['private_port']}/metrics")
                    if sample(found.text, "chat_runs_in_flight"):
                        return False
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%transaction%'"
        async with self.sql() as sql:
            return not self.model.speaking and not await sql.fetchval(busy)


def services(tasks: Iterable[str]) -> Counter[str]:
    """Those of services; of connections there may be fewer or more."""
    return Counter(name for name in tasks if "Server" not in name and "Protocol" not in name)


def sample(text: str, name: str) -> float:
    found = [item for family in text_string_to_metric_families(text) for item in family.samples if item.name == name]
    return found[0].value


async def left(chat: Chat, user: UUID, tokens: int) -> bool:
    """Whether so many are left, by what somebody is told who asks for too many: what others hold is not."""
    body = {"model": "huge", "messages": [{"role": "user", "content": "All of it"}]}
    with contextlib.suppress(httpx2.ReadError):  # of a connection that has just been closed for having been idle
        response = await chat.client.post("/v1/chat/completions", json=body, headers=chat.keys.bearer(user))
        found = re.search(r"(\d+) tokens are left", response.text)
        return found is not None and int(found[1]) == tokens
    return False


async def approve(chat: Chat, item: Asked) -> None:
    """Follow the next attempt."""
    asked = next(event for event in reversed(item.seen) if event["type"] == "tool.approval")
    path = f"/api/v1/chat/runs/{item.run_id}/approvals/{asked['tool_call_id']}"
    headers = chat.keys.bearer(item.user) | {"Accept": "text/event-stream"}
    with contextlib.suppress(httpx2.TransportError):
        response = await chat.client.post(path, json={"approved": True}, headers=headers)
        item.seen += parse_sse(response.text)


async def cancel(chat: Chat, item: Asked) -> None:
    """Tried again where a replica does not reach Redis in time to tell another of the wish."""

    async def taken() -> bool:
        path = f"/api/v1/chat/runs/{item.run_id}/cancel"
        response = await chat.client.post(path, headers=chat.keys.bearer(item.user))
        assert response.status_code in (202, 503), response.text
        return response.status_code == 202

    await eventually(taken, PATIENCE)


async def _answers(client: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return (await client.get("/health")).is_success
    return False


@contextlib.contextmanager
def living(world: World) -> Iterator[World]:
    try:
        yield world
    finally:
        world.here.stop()
        world.there.stop()
        world.redis.kill()
