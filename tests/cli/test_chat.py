"""The terminal client against a bot that is scripted, over a real socket."""

import asyncio
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from chatbot_cli import client
from chatbot_cli.chat import Talk, question_from
from chatbot_cli.client import Client, Event, events
from chatbot_cli.errors import CliError
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.serving import serving


def frame(kind: str, seq: int, /, **data: Any) -> str:
    document = {"type": kind, "run_id": "r1", "attempt": 1, "seq": seq, **data}
    return f"id: 1-{seq}\nevent: {kind}\ndata: {json.dumps(document)}\n\n"


STARTED = frame("run.started", 1, conversation_id="c1", user_message_id="u", message_id="m", model="x")
FINISHED = frame("run.finished", 9, conversation_id="c1", message_id="m", content="We open at 8.")
ANSWER = [
    STARTED,
    ": still there\n\n",
    frame("text.delta", 2, text="We open "),
    frame("text.delta", 3, text="at 8.\x1b[2J"),
    frame("citation", 4, index=1, title="Opening hours", source_id="s", kind="faq", url=None, text=""),
    frame("usage", 5, input_tokens=1, output_tokens=2),
    FINISHED,
]


ASKED_AGAIN = frame("tool.approval", 4, tool_call_id="b", name="order", arguments="{}", more=False)
ASKED = [STARTED, frame("tool.approval", 3, tool_call_id="a", name="order", arguments="{}", more=True), ASKED_AGAIN]


@dataclass
class Bot:
    """Answers with a script and remembers what it was sent."""

    script: list[str] = field(default_factory=lambda: list(ANSWER))
    expired: set[str] = field(default_factory=set)
    hang: bool = False
    problem: tuple[int, dict[str, Any]] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    answers: list[tuple[str, bool]] = field(default_factory=list)
    ratings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    rest: list[list[str] | int] = field(default_factory=list)
    """What who comes back for the rest of a stream gets, each time, or with which status they are refused."""
    places: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/v1/chat/send", self._send, methods=["POST"]),
                Route("/api/v1/chat/runs/{run}/cancel", self._cancel, methods=["POST"]),
                Route("/api/v1/chat/runs/{run}/events", self._events),
                Route("/api/v1/chat/runs/{run}/approvals/{call}", self._approve, methods=["POST"]),
                Route("/api/v1/conversations/c1/messages/m/regenerate", self._send, methods=["POST"]),
                Route("/api/v1/conversations/c1/messages/{message}/feedback", self._rate, methods=["POST"]),
            ]
        )

    async def _send(self, request: Request) -> Response:
        assert request.headers["accept"] == "text/event-stream"
        if request.headers["authorization"].removeprefix("Bearer ") in self.expired:
            return JSONResponse({"title": "Sign in first", "status": 401}, 401)
        if self.problem:
            return JSONResponse(self.problem[1], self.problem[0], media_type="application/problem+json")
        self.bodies.append(await request.json())
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        for text in self.script:
            yield text
            await asyncio.sleep(0)
        if self.hang:
            await self.stopped.wait()

    async def _events(self, request: Request) -> Response:
        assert request.headers["accept"] == "text/event-stream"
        if request.headers["authorization"].removeprefix("Bearer ") in self.expired:
            return JSONResponse({"title": "Sign in first", "status": 401}, 401)
        self.places.append(request.query_params["after"])
        rest = self.rest.pop(0) if self.rest else []
        if isinstance(rest, int):
            return JSONResponse({"title": "Not now", "status": rest}, rest)
        self.script = rest
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _approve(self, request: Request) -> Response:
        self.answers.append((request.path_params["call"], (await request.json())["approved"]))
        self.script = [ASKED_AGAIN] if len(self.answers) == 1 else ANSWER
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _rate(self, request: Request) -> Response:
        if request.headers["authorization"].removeprefix("Bearer ") in self.expired:
            return JSONResponse({"title": "Sign in first", "status": 401}, 401)
        self.ratings.append((request.path_params["message"], await request.json()))
        return JSONResponse({})

    async def _cancel(self, request: Request) -> Response:
        self.cancelled.append(request.path_params["run"])
        self.stopped.set()
        return JSONResponse({})


def talk_to(url: str, tokens: Iterator[str] | None = None) -> tuple[Talk, io.StringIO]:
    screen = io.StringIO()
    given_tokens = tokens or iter(["t"])
    console = Console(file=screen, highlight=False, soft_wrap=True)
    return Talk(Client(url, lambda: next(given_tokens)), console=console), screen


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


class TestAsk:
    async def test_prints_the_answer_without_what_would_steer_the_terminal(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bot = Bot()
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url)
            assert await asyncio.to_thread(talk.ask, "When?")
            talk.client.close()
        assert screen.getvalue() == "We open at 8.[2J\n"
        assert "[1] Opening hours" in capsys.readouterr().err

    async def test_says_that_the_answer_is_not_whole(self, capsys: pytest.CaptureFixture[str]) -> None:
        end = frame("run.finished", 9, conversation_id="c1", message_id="m", content="We open", finish_reason="length")
        async with serving(Bot(script=[STARTED, end]).app()) as url:
            talk, screen = talk_to(url)
            assert await asyncio.to_thread(talk.ask, "When?")
            talk.client.close()
        assert screen.getvalue() == "We open\n"
        assert "cut off" in capsys.readouterr().err

    async def test_the_user_is_asked_about_each_call_that_waits(self) -> None:
        bot = Bot(script=ASKED)
        questions: list[str] = []

        def agrees(question: str) -> bool:
            questions.append(question)
            return len(questions) == 2

        async with serving(bot.app()) as url:
            talk, screen = talk_to(url)
            talk.agrees = agrees
            assert await asyncio.to_thread(talk.ask, "Order")
            talk.client.close()
        assert (bot.answers, questions) == ([("a", False), ("b", True)], ["order {}", "order {}"])
        assert "We open" in screen.getvalue()

    async def test_where_nobody_can_agree_nothing_is_called(self, capsys: pytest.CaptureFixture[str]) -> None:
        bot = Bot(script=ASKED)
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url)
            await asyncio.to_thread(talk.ask, "Order")
            talk.client.close()
        assert bot.answers == [("a", False), ("b", False)]
        assert "nobody is there to agree: order {}" in capsys.readouterr().err

    async def test_tools_are_told_beside_the_answer(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = "not [bold]a\x1b[2J\nfile[/]" + "!" * 200
        used = [
            frame("tool.started", 3, tool_call_id="a", name="fetch", arguments='{"url": "[b]"}'),
            frame("tool.finished", 4, tool_call_id="a", name="fetch", status="failed", content=said),
        ]
        bot = Bot([STARTED, frame("text.delta", 2, text="Well."), *used, FINISHED])
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url)
            await asyncio.to_thread(talk.ask, "Fetch")
            talk.client.close()
        told = capsys.readouterr().err.split("\n")
        assert told[:2] == ["", '  ⚙ fetch {"url": "[b]"}']
        assert told[2].startswith("  ✗ fetch: not [bold]a[2J file[/]!!!")
        assert told[2].endswith("!…")
        assert screen.getvalue() == "Well.\n"

    async def test_goes_on_with_the_conversation(self) -> None:
        bot = Bot()
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url)
            await asyncio.to_thread(talk.ask, "One")
            await asyncio.to_thread(talk.ask, "Two")
            talk.client.close()
        first, second = bot.bodies
        assert (first["content"], "conversation_id" in first) == ("One", False)
        assert (second["content"], second["conversation_id"]) == ("Two", "c1")
        assert first["client_message_id"] != second["client_message_id"]

    async def test_signs_in_again_when_the_token_has_expired(self) -> None:
        bot = Bot(expired={"old"})
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url, iter(["old", "new"]))
            assert await asyncio.to_thread(talk.ask, "When?")
            talk.client.close()
        assert "We open" in screen.getvalue()

    async def test_a_token_that_stays_refused_is_an_error(self) -> None:
        bot = Bot(expired={"old"})
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url, iter(["old", "old"]))
            with pytest.raises(CliError, match="Sign in first"):
                await asyncio.to_thread(talk.ask, "When?")
            talk.client.close()

    async def test_a_refusal_is_told_in_its_own_words(self) -> None:
        bot = Bot(problem=(422, {"title": "The request is not valid", "detail": "/content: too long", "status": 422}))
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url)
            with pytest.raises(CliError, match=r"The request is not valid\. /content: too long"):
                await asyncio.to_thread(talk.ask, "x")
            talk.client.close()

    async def test_a_run_that_fails_says_why_after_what_it_had(self) -> None:
        failed = frame("run.failed", 3, error={"type": "t", "title": "No model", "detail": "The provider hung up."})
        bot = Bot([STARTED, frame("text.delta", 2, text="We"), failed])
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url)
            with pytest.raises(CliError, match="The provider hung up"):
                await asyncio.to_thread(talk.ask, "x")
            talk.client.close()
        assert screen.getvalue() == "We\n"

    async def test_a_stream_that_breaks_off_goes_on_where_it_was(self, hurried: None) -> None:
        bot = Bot([STARTED, frame("text.delta", 2, text="We open ")], expired={"old"})
        more = [frame("text.delta", 2, text="We open "), frame("text.delta", 3, text="at ")]
        bot.rest = [more, 503, [frame("text.delta", 4, text="8."), FINISHED]]
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url, iter(["old", "new"]))
            assert await asyncio.to_thread(talk.ask, "x")
            talk.client.close()
        assert screen.getvalue() == "We open at 8.\n"
        assert (len(bot.bodies), bot.places) == (1, ["1-2", "1-3", "1-3"])

    async def test_so_does_one_whose_token_has_expired(self, hurried: None) -> None:
        bot = Bot([STARTED, frame("text.delta", 2, text="We open ")], rest=[[frame("run.cancelled", 3)]])
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url, iter(["old", "new"]))
            stream = talk.client.ask("x")
            assert (await asyncio.to_thread(next, stream)).type == "run.started"
            bot.expired = {"old"}
            assert (await asyncio.to_thread(list, stream))[-1].type == "run.cancelled"
            talk.client.close()

    @pytest.mark.parametrize(("rest", "why"), [([], "ended before the answer"), ([404], "Not now")])
    async def test_one_that_does_not_come_back_is_an_error(self, hurried: None, rest: list[Any], why: str) -> None:
        bot = Bot([STARTED, frame("text.delta", 2, text="We")], rest=rest)
        async with serving(bot.app()) as url:
            talk, _ = talk_to(url)
            with pytest.raises(CliError, match=why):
                await asyncio.to_thread(talk.ask, "x")
            talk.client.close()
        assert len(bot.places) == (1 if why == "Not now" else 3)

    def test_nobody_there(self) -> None:
        talk, _ = talk_to("http://127.0.0.1:1")
        with pytest.raises(CliError, match="Nothing answers at"):
            talk.ask("x")
        talk.client.close()

    async def test_a_snapshot_prints_only_what_is_new(self) -> None:
        snapshot = frame("run.snapshot", 3, text="We open at 8.", parts=[], status="running")
        bot = Bot([STARTED, frame("text.delta", 2, text="We open "), snapshot, FINISHED])
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url)
            await asyncio.to_thread(talk.ask, "x")
            talk.client.close()
        assert screen.getvalue() == "We open at 8.\n"


class TestRepl:
    async def test_rates_and_repeats_the_last_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = iter(["/good", "When?", "/bad Too short.", "/good", "/again", "/new", "/again", "/nonsense", "/quit"])
        monkeypatch.setattr("builtins.input", lambda _: next(lines))
        bot = Bot(expired={"old"})
        async with serving(bot.app()) as url:
            talk, screen = talk_to(url, iter(["old", "new"]))
            await asyncio.to_thread(talk.repl)
            talk.client.close()
        assert bot.ratings == [("m", {"rating": "down", "comment": "Too short."}), ("m", {"rating": "up"})]
        assert [body.get("content") for body in bot.bodies] == ["When?", None]
        assert screen.getvalue().count("We open at 8.") == 2
        told = capsys.readouterr().err
        assert (told.count("There is no answer yet."), told.count("/good and /bad rate")) == (2, 2)


class TestCommand:
    """The program itself, as a process."""

    def command(self, url: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "chatbot_cli", "chat", "--url", url, *arguments]

    async def test_asks_once_and_leaves(self) -> None:
        bot = Bot()
        async with serving(bot.app()) as url:
            ended = await self.run(self.command(url, "When?"), stdin=b"")
        assert (ended.returncode, ended.stdout.decode()) == (0, "We open at 8.[2J\n")

    async def test_asks_what_is_piped_in(self) -> None:
        bot = Bot()
        async with serving(bot.app()) as url:
            await self.run(self.command(url, "Sum up:"), stdin=b"a long text\n")
        assert bot.bodies[0]["content"] == "Sum up:\n\na long text"

    async def test_ctrl_c_cancels_the_run(self) -> None:
        bot = Bot([STARTED, frame("text.delta", 2, text="We open ")], hang=True)
        async with serving(bot.app()) as url:
            process = await asyncio.create_subprocess_exec(
                *self.command(url, "When?"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"CHATBOT_TOKEN": "t", "PATH": ""},
            )
            assert process.stdout
            assert await process.stdout.readexactly(8) == b"We open "
            process.send_signal(signal.SIGINT)
            _, errors = await asyncio.wait_for(process.communicate(), 15)
        assert bot.cancelled == ["r1"]
        assert b"(stopped)" in errors
        assert process.returncode == 1

    async def test_without_a_token_it_says_what_to_do(self) -> None:
        ended = await self.run(self.command("http://127.0.0.1:1", "x"), stdin=b"", environment={"PATH": ""})
        assert ended.returncode == 2
        assert b"Set CHATBOT_TOKEN" in ended.stderr

    async def test_a_token_cannot_be_an_argument(self) -> None:
        """Every user of the machine can read arguments."""
        ended = await self.run(self.command("http://127.0.0.1:1", "x", "--token", "t"), stdin=b"")
        assert ended.returncode == 2
        assert b"No such option" in ended.stderr
        helped = await self.run(self.command("http://127.0.0.1:1", "--help"), stdin=b"")
        assert b"$CHATBOT_TOKEN" in helped.stdout

    async def run(
        self, command: list[str], stdin: bytes, environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return await asyncio.to_thread(
            subprocess.run,
            command,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=30,
            env=environment or {"CHATBOT_TOKEN": "t", "PATH": ""},
        )


class TestEvents:
    def test_passes_over_what_it_does_not_know(self) -> None:
        lines = [
            ": hello",
            "",
            "retry: 5",
            "",
            "data: no json",
            "",
            "data: [1]",
            "",
            'data: {"type": "a"}',
            "",
            "data: {",
        ]
        assert list(events(lines)) == [Event("a", {"type": "a"})]

    def test_joins_data_over_several_lines(self) -> None:
        assert list(events(['data: {"type":', 'data: "a"}', ""])) == [Event("a", {"type": "a"})]

    @given(st.lists(st.text(alphabet='dat:{}"type a,\n', max_size=20)))
    def test_never_fails(self, lines: list[str]) -> None:
        assert all(isinstance(event, Event) for event in events(lines))


class TestQuestionFrom:
    @pytest.mark.parametrize(
        ("argument", "piped", "question"),
        [("a", None, "a"), (None, "b\n", "b"), ("a", "b", "a\n\nb"), (None, None, None), (" ", "\n", None)],
    )
    def test_takes_both(self, argument: str | None, piped: str | None, question: str | None) -> None:
        assert question_from(argument, piped) == question


def test_help_comes_quickly() -> None:
    """The slow imports are made only by the commands that need them."""
    began = time.monotonic()
    code = "import sys; import chatbot_cli.app; print(*(name for name in sys.modules if '.' not in name))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603
    loaded = set(ended.stdout.split())
    assert loaded.isdisjoint({"pydantic", "httpx2", "cryptography", "jwt", "yaml", "psutil", "rich"})
    assert time.monotonic() - began < 10
