"""Moderation: what is refused, what is withheld while it is said, what is only marked, and what nobody could judge."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import openai
import pytest
from chatbot_chat.agent import Called, Returned, Wanted
from chatbot_chat.moderation import Pace, Verdict, merged
from chatbot_chat.moderation.builtin import BUILT_IN
from chatbot_chat.moderation.rules import LONGEST, MalformedRules, Rules, rules_of
from chatbot_chat.moderation.service import Moderation, Withheld
from chatbot_chat.moderation.window import Window
from chatbot_chat.providers import Finish, ModelEvent, ReasoningDelta, TextDelta, ToolCall, Usage
from chatbot_chat.settings import ModerationSettings, Settings
from chatbot_chat.tools.toolbox import Result
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from tests.chat.running import Chat, running
from tests.support.identity import BOT, Keys
from tests.support.model_server import ModelServer

LISTS = {"words": ["forbidden fruit", "größe", "kill*", "禁止", "C++"], "patterns": [r"/\b\d{4}-\d{4}\b/"]}
BLOCK = ModerationSettings(input="Block", output="Block", provider=None, rules_file=None)


class TestRules:
    @pytest.mark.parametrize(
        "text",
        [
            "Forbidden  FRUIT!",
            "the forbidden\nfruit",
            "die GRÖSSE? nein: die Größe",
            "she kills, killing",
            "これは禁止です",
            "ｆｏｒｂｉｄｄｅｎ fruit",  # noqa: RUF001
            "forb\u200bidden fruit",
            "card 1234-5678.",
            "I like C++, too",
        ],
    )
    async def test_find(self, text: str) -> None:
        assert (await Rules(LISTS).judge(text)).flagged

    @pytest.mark.parametrize(
        "text", ["", "unforbidden fruit", "forbidden fruits", "skill", "vergrößern", "12345-67890"]
    )
    async def test_leave_alone(self, text: str) -> None:
        assert not (await Rules(LISTS).judge(text)).flagged

    async def test_tell_the_category(self) -> None:
        verdict = await Rules(LISTS).judge("1234-5678")
        assert verdict == Verdict(True, {"words": False, "patterns": True}, {"words": 0.0, "patterns": 1.0})
        assert verdict.found == ["patterns"]

    async def test_take_no_longer_for_a_pattern_that_is_meant_to(self) -> None:
        """With Python's own `re` this would not end."""
        assert not (await Rules({"slow": [r"/(a|a)*(a+)+$/"]}).judge("a" * 5000 + "!")).flagged

    async def test_thousands_of_them(self) -> None:
        rules = Rules({"many": [f"word{number}" for number in range(3000)]})
        assert (await rules.judge("not word3000, but word2999")).flagged

    async def test_that_come_along(self) -> None:
        rules = rules_of(None)
        assert (await rules.judge("Tell me how to build a pipe bomb")).found == ["illicit/violent"]
        for harmless in ("How do I make a bath bomb?", "He killed the process himself", "Are minors allowed?"):
            assert not (await rules.judge(harmless)).flagged

    async def test_of_a_file_add_to_them_and_replace_a_category(self, tmp_path: Path) -> None:
        (tmp_path / "rules.yaml").write_text("own: [forbidden fruit]\nillicit/violent: []\n")
        rules = rules_of(str(tmp_path / "rules.yaml"))
        assert (await rules.judge("forbidden fruit")).found == ["own"]
        assert not (await rules.judge("how to build a bomb")).flagged
        assert set((await rules.judge("")).categories) == {"own", *BUILT_IN}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("- a\n", "must map categories"),
            ("a: b\n", "must be a list"),
            ("a: [1]\n", "in quotes"),
            ("a: ['*']\n", "would flag everything"),
            ("a: ['/(b/']\n", "is no pattern: missing"),
            (f"a: [{'b' * (LONGEST + 1)}]\n", "longer than 100"),
            ("a: [\n", "not YAML"),
        ],
    )
    def test_that_cannot_be_used_say_why(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "rules.yaml").write_text(text)
        with pytest.raises(MalformedRules, match=says):
            rules_of(str(tmp_path / "rules.yaml"))


def test_verdicts_of_pieces_become_one() -> None:
    both = merged(
        [Verdict(False, {"a": False}, {"a": 0.1}), Verdict(True, {"a": True, "b": False}, {"a": 0.9, "b": 0})]
    )
    assert both == Verdict(True, {"a": True, "b": False}, {"a": 0.9, "b": 0})


PIECES = st.lists(st.text("ab \n.禁", min_size=1, max_size=30), max_size=30)
PACES = st.builds(Pace, held=st.integers(0, 40), step=st.integers(1, 40), context=st.integers(0, 40))


class TestWindow:
    @given(PIECES, PACES)
    def test_shows_all_in_order_and_only_what_was_judged(self, pieces: list[str], pace: Pace) -> None:
        window, judged, shown = Window(pace), "", ""
        for number, piece in enumerate([*pieces, ""]):
            last = number == len(pieces)
            window.add(piece)
            if (text := window.due(last=last)) is not None:
                judged += text
            released = window.released(last=last)
            shown += released
            assert released in judged
            assert last or len(shown) <= max(len("".join(pieces[: number + 1])) - pace.held, 0)
        assert shown == "".join(pieces)


async def said(pieces: list[str]) -> AsyncGenerator[ModelEvent, None]:
    for piece in pieces:
        yield ReasoningDelta("forbidden fruit")
        yield TextDelta(piece)
    yield Usage(1, 2)
    yield Finish("stop")


class TestAnswers:
    @given(st.lists(st.text("xy ", max_size=120), max_size=4), st.data())
    async def test_never_show_what_is_flagged(self, words: list[str], data: st.DataObject) -> None:
        text = " ".join([*words, "forbidden fruit", *words])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        events = [event async for event in Moderation(Rules(LISTS), BLOCK).watched(said(pieces))]
        shown = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert "forbidden" not in shown
        assert text.startswith(shown)
        withheld = events[-2]
        assert isinstance(withheld, Withheld)
        assert withheld.text == "This answer was withheld: moderation flagged it as words."
        assert events[-1] == Finish("content_filter")

    async def test_that_are_harmless_arrive_whole(self) -> None:
        pieces = [f"word{number} " for number in range(200)]
        events = [event async for event in Moderation(Rules(LISTS), BLOCK).watched(said(pieces))]
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "".join(pieces)
        assert events[-1] == Finish("stop")
        assert Usage(1, 2) in events
        assert len(events) > 100
        assert not any(isinstance(event, ReasoningDelta) for event in events)

    @pytest.mark.parametrize(
        "event",
        [
            ToolCall("1", "say", '{"text": "forbidden fruit"}'),
            Called(ToolCall("1", "say", '{"text": "forbidden fruit"}')),
            Wanted((ToolCall("1", "say", "{}"), ToolCall("2", "say", '{"text": "forbidden fruit"}'))),
            Returned(ToolCall("1", "say", "{}"), Result("forbidden fruit")),
        ],
    )
    async def test_say_it_in_no_call_either(self, event: ToolCall | Called | Wanted | Returned) -> None:
        async def calling() -> AsyncGenerator[ToolCall | Called | Wanted | Returned | Finish, None]:
            yield event
            yield Finish("tool_calls")

        events = [event async for event in Moderation(Rules(LISTS), BLOCK).watched(calling())]
        assert isinstance(events[0], Withheld)
        assert events[1:] == [Finish("content_filter")]


FORBIDDEN = "Please say nothing at all about any forbidden fruit " + "and so on " * 30


@contextlib.asynccontextmanager
async def moderated(keys: Keys, told: dict[str, Any], **moderation: Any) -> AsyncIterator[Chat]:
    settings = {"input": "Off", "output": "Off", "provider": None, "rules_file": None} | moderation
    async with running(keys, Settings.model_validate(told | {"moderation": settings})) as service:
        yield service


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "rules.yaml").write_text("own: [forbidden fruit]\n")
    return str(tmp_path / "rules.yaml")


async def stored(conversation_url: str, keys: Keys, user_id: UUID) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=conversation_url, headers=keys.bearer(user_id)) as client:
        data: list[dict[str, Any]] = (await client.get("/api/v1/history")).json()["data"]
        return data[::-1]


class TestQuestion:
    @pytest.mark.parametrize("moderation", [{"rules_file": "rules"}, {"provider": "scripted"}])
    async def test_is_refused_before_anything_happens(
        self, keys: Keys, told: dict[str, Any], rules: str, conversation_url: str, model_server: ModelServer, ada: UUID,
        moderation: dict[str, Any],
    ) -> None:  # fmt: skip
        moderation = moderation | ({"rules_file": rules} if "rules_file" in moderation else {})
        async with moderated(keys, told, input="Block", **moderation) as chat:
            response = await chat.send(ada, FORBIDDEN, model="echo")
            body = {
                "model": "echo",
                "messages": [{"role": "system", "content": FORBIDDEN}, {"role": "user", "content": "x"}],
            }
            raw = await chat.client.post("/v1/chat/completions", json=body, headers=keys.bearer(ada))
        assert response.status_code == raw.status_code == 400
        assert response.json()["type"] == "urn:chatbot:problem:content-blocked"
        assert response.json()["categories"] == (["own"] if "rules_file" in moderation else ["violence"])
        assert raw.json()["error"]["code"] == "content_policy_violation"
        assert await stored(conversation_url, keys, ada) == []
        assert not model_server.requests

    async def test_is_marked(
        self, keys: Keys, told: dict[str, Any], rules: str, conversation_url: str, ada: UUID
    ) -> None:
        async with moderated(keys, told, input="Flag", rules_file=rules) as chat:
            assert (await chat.send(ada, FORBIDDEN, model="echo")).status_code == 200
            assert (await chat.send(ada, "Hello", model="echo")).status_code == 200
        marks = [message["moderation"] for message in await stored(conversation_url, keys, ada)]
        assert marks[0]["flagged"]
        assert marks[0]["categories"]["own"]
        assert marks[1:] == [None] * 3

    async def test_is_not_let_through_unseen(
        self, keys: Keys, told: dict[str, Any], conversation_url: str, ada: UUID
    ) -> None:
        async with moderated(keys, told, input="Block", provider="scripted") as chat:
            response = await chat.send(ada, "unjudged", model="echo")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:chatbot:problem:moderation-unavailable"
        assert await stored(conversation_url, keys, ada) == []
        async with moderated(keys, told, input="Flag", provider="scripted") as chat:
            assert (await chat.send(ada, "unjudged", model="echo")).status_code == 200


class TestAnswer:
    @pytest.mark.parametrize("provider", [None, "scripted"])
    async def test_is_withheld_while_it_is_said(
        self, keys: Keys, told: dict[str, Any], rules: str, conversation_url: str, ada: UUID, provider: str | None
    ) -> None:
        async with moderated(keys, told, output="Block", provider=provider, rules_file=rules) as chat:
            events = await chat.stream(ada, "and so on " * 90 + FORBIDDEN, model="echo")
            again = await chat.events(ada, events[0]["run_id"])
        assert not any("fruit" in event.get("text", "") for event in events)
        kinds = [event["type"] for event in events]
        assert kinds.count("text.delta") > 1
        notice = next(event["text"] for event in events if event["type"] == "text.replaced")
        assert notice.startswith("This answer was withheld")
        assert (kinds[-1], events[-1]["content"]) == ("run.finished", notice)
        assert again == events
        _, answer = await stored(conversation_url, keys, ada)
        assert (answer["text"], answer["parts"]) == (notice, [{"type": "text", "text": notice}])
        assert answer["moderation"]["flagged"]

    async def test_that_nobody_can_judge_is_not_shown(self, keys: Keys, told: dict[str, Any], ada: UUID) -> None:
        async with moderated(keys, told, output="Block", provider="scripted") as chat:
            response = await chat.send(ada, "unjudged", model="echo")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:chatbot:problem:moderation-unavailable"

    async def test_is_marked(
        self, keys: Keys, told: dict[str, Any], rules: str, conversation_url: str, ada: UUID
    ) -> None:
        async with moderated(keys, told, output="Flag", rules_file=rules) as chat:
            events = await chat.stream(ada, FORBIDDEN, model="echo")
        assert "forbidden fruit" in events[-1]["content"]
        question, answer = await stored(conversation_url, keys, ada)
        assert question["moderation"] is None
        assert answer["moderation"]["categories"]["own"]

    @pytest.mark.parametrize("model", ["echo", BOT])
    async def test_under_v1_is_relayed_no_more(
        self, keys: Keys, told: dict[str, Any], rules: str, ada: UUID, model: str
    ) -> None:
        told = told | {"default_model": "echo"}
        asked: list[Any] = [{"role": "user", "content": FORBIDDEN}]
        async with (
            moderated(keys, told, output="Block", rules_file=rules) as chat,
            AsyncOpenAI(base_url=f"{chat.client.base_url}/v1", api_key=keys.access_token(ada), max_retries=0) as sdk,
        ):
            whole = (await sdk.chat.completions.create(model=model, messages=asked)).choices[0]
            stream = await sdk.chat.completions.create(model=model, messages=asked, stream=True)
            chunks = [chunk.choices[0] async for chunk in stream]
        assert whole.finish_reason == chunks[-1].finish_reason == "content_filter"
        assert (whole.message.content or "").startswith("This answer was withheld")
        assert "forbidden" not in "".join(chunk.delta.content or "" for chunk in chunks)


class TestEndpoint:
    @pytest.mark.parametrize(("provider", "category"), [(None, "own"), ("scripted", "violence")])
    async def test_judges(
        self, keys: Keys, told: dict[str, Any], rules: str, ada: UUID, provider: str | None, category: str
    ) -> None:
        async with (
            moderated(keys, told, provider=provider, rules_file=rules) as chat,
            AsyncOpenAI(base_url=f"{chat.client.base_url}/v1", api_key=keys.access_token(ada), max_retries=0) as sdk,
        ):
            found = await sdk.moderations.create(input=["Hello", FORBIDDEN])
            parts = await sdk.moderations.create(input=[{"type": "text", "text": FORBIDDEN}])
            with pytest.raises(openai.BadRequestError):
                await sdk.moderations.create(input=[{"type": "image_url", "image_url": {"url": "http://x"}}])
        assert [result.flagged for result in found.results] == [False, True]
        assert parts.results[0].categories.model_dump(by_alias=True)[category] is True

    async def test_judges_also_where_nothing_is_moderated(self, chat: Chat, ada: UUID) -> None:
        response = await chat.client.post("/v1/moderations", json={"input": "Hello"}, headers=chat.keys.bearer(ada))
        assert response.json()["results"][0]["flagged"] is False
        assert (await chat.client.post("/v1/moderations", json={"input": "Hello"})).status_code == 401
