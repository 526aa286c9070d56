"""The cache of answers: given again to who got them, for the same things only, and never what must not be kept."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
from chatbot_chat.agent import AgentEvent
from chatbot_chat.caching.kept import LARGEST, NEWEST, Kept
from chatbot_chat.caching.keys import Key, key_of, key_of_body
from chatbot_chat.caching.service import Cache, Use, wished
from chatbot_chat.conversation_client import ConversationClient
from chatbot_chat.providers import Chosen, Finish, Message, ModelRequest, TextDelta, ToolSpec, Usage
from chatbot_chat.settings import CacheSettings
from chatbot_common.http import service_client
from chatbot_common.identity import ServiceIdentity
from chatbot_common.ids import uuid7
from redis.asyncio import Redis

from tests.chat.caching import QUESTION, answers_of, counted
from tests.support.identity import Keys

REQUEST = ModelRequest("m", [Message("system", "Be kind."), Message("user", QUESTION)], QUESTION)
CHANGES: list[Callable[[ModelRequest], ModelRequest]] = [
    lambda request: replace(request, model="other"),
    lambda request: replace(request, max_tokens=7),
    lambda request: replace(request, wishes={"temperature": 0.0}),
    lambda request: replace(request, tools=(ToolSpec("t", "A tool", {"type": "object"}),)),
    lambda request: replace(request, must_call=True),
    lambda request: replace(request, messages=[Message("system", "Be short."), *request.messages[1:]]),
    lambda request: replace(request, messages=[Message("user", "Hi"), Message("assistant", "Ho"), *request.messages]),
]


def asking(question: str) -> ModelRequest:
    return replace(REQUEST, messages=[REQUEST.messages[0], Message("user", question)], question=question)


class TestKey:
    @pytest.mark.parametrize("change", CHANGES)
    def test_has_all_that_makes_the_answer(self, change: Callable[[ModelRequest], ModelRequest]) -> None:
        assert key_of("w", change(REQUEST)).rest != key_of("w", REQUEST).rest

    def test_has_the_world_in_which_it_was_given(self) -> None:
        assert key_of("v", REQUEST).exact != key_of("w", REQUEST).exact

    def test_differs_by_the_words_of_the_question_only(self) -> None:
        one, other = key_of("w", REQUEST), key_of("w", asking("What is the height of the Eiffel tower?"))
        assert one.rest == other.rest
        assert one.exact != other.exact

    @pytest.mark.parametrize("other", ["What is 2 + 3?", "What is 2 - 2?", "What is 2 + -2?", "What is 2 + 2 %?"])
    def test_takes_numbers_and_signs_as_they_are(self, other: str) -> None:
        assert key_of("w", asking("What is 2 + 2?")).rest != key_of("w", asking(other)).rest

    def test_takes_the_end_of_a_sentence_for_no_sign(self) -> None:
        assert key_of("w", asking("What's 2 + 2?")).rest == key_of("w", asking("Tell me 2 + 2.")).rest

    def test_of_a_body_has_each_field_in_any_order(self) -> None:
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "seed": 1}
        key = key_of_body("w", body)
        assert key == key_of_body("w", dict(reversed(body.items())) | {"stream_options": {"include_usage": True}})
        assert key.question == QUESTION
        for change in ({"seed": 2}, {"stream": True}, {"logprobs": True}):
            assert key_of_body("w", body | change).rest != key.rest

    def test_of_parts_that_are_no_text_has_no_question(self) -> None:
        image = [{"type": "image_url", "image_url": {"url": "data:,a"}}]
        one, other = (
            key_of_body("w", {"messages": [{"role": "user", "content": content}]})
            for content in (image, [*image, {"type": "text", "text": "b"}])
        )
        assert one.question == other.question == ""
        assert one.exact != other.exact


class TestWishes:
    @pytest.mark.parametrize(
        ("header", "use"),
        [
            ("", Use()),
            ("max-age=60", Use()),
            ("no-cache", Use(read=False)),
            ("max-age=0, No-Cache", Use(read=False)),
            ("no-store", Use(read=False, write=False)),
        ],
    )
    def test_of_a_client(self, header: str, use: Use) -> None:
        assert wished(header) == use


class TestKept:
    """`near` and `far` are unit vectors of cosine 0.8 and 0 to the first."""

    FIRST, NEAR, FAR = [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]

    async def test_is_for_its_user(self, redis: Redis) -> None:
        kept, ada, bob, key = Kept(redis, 60), uuid7(), uuid7(), Key("r", "q")
        await kept.put(ada, key, {"said": "a"}, self.FIRST)
        assert (await kept.exactly(ada, key.exact))[0] == {"said": "a"}
        assert (await kept.exactly(bob, key.exact))[0] is None
        assert await kept.similar(bob, "r", self.FIRST, 0.5) is None

    async def test_is_found_by_the_nearest_question(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        for question, vector in [(f"b{number}", self.FAR) for number in range(8)] + [("a", self.FIRST)]:
            await kept.put(ada, Key("r", question), {"said": question}, vector)
        assert await kept.similar(ada, "r", self.NEAR, 0.7) == {"said": "a"}
        assert await kept.similar(ada, "r", self.NEAR, 0.85) is None
        assert await kept.similar(ada, "other", self.FIRST, 0.1) is None
        assert await kept.similar(ada, "r", [1.0, 0.0, 0.0], 0.1) is None

    async def test_ends_by_itself(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        await kept.put(ada, Key("r", "q"), {"said": "a"}, self.FIRST)
        names = [name async for name in redis.scan_iter(match=f"chat:cache:*{ada}*")]
        assert len(names) == 3
        for name in names:
            assert 0 < await redis.ttl(name) <= 60

    async def test_is_forgotten_at_once(self, redis: Redis) -> None:
        kept, ada, bob = Kept(redis, 60), uuid7(), uuid7()
        for user in (ada, bob):
            for rest in "rs":
                await kept.put(user, Key(rest, "q"), {"said": "a"}, self.FIRST)
        await kept.forget(ada)
        assert await redis.keys(f"chat:cache:*{ada}*") == [f"chat:cache:{{{ada}}}:erased".encode()]
        assert await kept.similar(bob, "s", self.FIRST, 0.9)

    async def test_is_not_of_a_question_from_before_something_was_erased(self, redis: Redis) -> None:
        """However long its answer takes."""
        kept, ada, key = Kept(redis, 60), uuid7(), Key("r", "q")
        for _ in range(2):
            _, before = await kept.exactly(ada, key.exact)
            await kept.forget(ada)
            await kept.put(ada, key, {"said": "a"}, None, before)
            assert await answers_of(redis, ada) == []
        _, after = await kept.exactly(ada, key.exact)
        await kept.put(ada, key, {"said": "b"}, None, after)
        assert await kept.exactly(ada, key.exact) == ({"said": "b"}, after)

    async def test_compares_directions_and_not_lengths(self, redis: Redis) -> None:
        kept, ada = Kept(redis, 60), uuid7()
        await kept.put(ada, Key("r", "a"), {"said": "a"}, [30.0, 0.0])
        assert await kept.similar(ada, "r", [16.0, 12.0], 0.85) is None
        assert await kept.similar(ada, "r", [0.016, 0.012], 0.79) == {"said": "a"}
        assert await kept.similar(ada, "r", [0.0, 0.0], 0.01) is None

    async def test_is_one_of_the_newest_of_its_user(self, redis: Redis) -> None:
        kept, ada, bob = Kept(redis, 60), uuid7(), uuid7()
        keys = [Key("rest" if number % 2 else f"rest{number}", f"{number}") for number in range(NEWEST + 9)]
        await kept.put(bob, keys[0], {"said": "b"}, self.FIRST)
        for key in [*keys[:-1], keys[8], keys[-1]]:  # what is kept again is new
            await kept.put(ada, key, {"said": key.question}, self.FIRST)
        found = [key.question for key in keys if (await kept.exactly(ada, key.exact))[0]]
        assert found == [key.question for key in [keys[8], *keys[10:]]]
        names = [name.decode() async for name in redis.scan_iter(match=f"chat:cache:*{ada}*")]
        vectors = [await redis.hlen(name) for name in names if ":vectors:" in name]
        assert (len(names) - len(vectors) - 1, sum(vectors)) == (NEWEST, NEWEST)
        assert await kept.similar(bob, keys[0].rest, self.FIRST, 0.9) == {"said": "b"}

    async def test_leaves_memory_for_what_has_to_be_counted(self, redis: Redis) -> None:
        ada, key = uuid7(), Key("r", "q")
        before: Any = (await redis.config_get("maxmemory"))["maxmemory"]
        await redis.config_set("maxmemory", 1 << 40)
        try:
            await Kept(redis, 60, full=0.0).put(ada, key, {"said": "a"}, self.FIRST)
            assert not await redis.keys(f"chat:cache:*{ada}*")
            await Kept(redis, 60).put(ada, key, {"said": "a"}, self.FIRST)
            assert await answers_of(redis, ada) == [key.exact]
        finally:
            await redis.config_set("maxmemory", before)

    async def test_is_not_too_large(self, redis: Redis) -> None:
        kept, ada, key = Kept(redis, 60), uuid7(), Key("r", "q")
        await kept.put(ada, key, {"said": "x" * LARGEST}, None)
        assert (await kept.exactly(ada, key.exact))[0] is None


async def spoken(text: str) -> AsyncGenerator[AgentEvent, None]:
    for event in (Chosen("m"), TextDelta(text), Usage(1, 1), Finish("stop")):
        yield event


def nobody(_: str) -> None:
    """Is told that an answer was given again."""


class TestCache:
    async def test_keeps_nothing_of_an_answer_that_ends_when_its_user_has_erased_something(
        self, redis: Redis, conversation: ConversationClient
    ) -> None:
        cache, ada, bob = Cache(conversation, CacheSettings(seconds=60, similarity=None), redis), uuid7(), uuid7()
        begun = [await cache.recall(user, "m", lambda: REQUEST) for user in (ada, bob)]
        await cache.forget(ada)
        begun.append(await cache.recall(ada, "m", lambda: asking("Another")))
        for recall in begun:
            async for _ in recall.through(spoken("324 m"), nobody):
                pass
            await recall.keep()
        for user, question, hit in ((ada, QUESTION, False), (bob, QUESTION, True), (ada, "Another", True)):
            assert (await cache.recall(user, "m", lambda asked=question: asking(asked))).hit == hit

    async def test_leaves_an_embedder_alone_that_is_away(
        self, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chatbot_chat.caching.service.AWAY_SECONDS", 600)
        before = counted("unavailable"), counted("miss")
        identity = ServiceIdentity("chat", keys.services["chat"].private_text, keys.public)
        async with service_client("http://127.0.0.1:1", identity, "conversation") as dead:
            cache = Cache(ConversationClient(dead, dead), CacheSettings(seconds=60, similarity=0.8), redis)
            for _ in range(2):
                assert not (await cache.recall(uuid7(), "m", lambda: REQUEST)).hit
        assert (counted("unavailable"), counted("miss")) == (before[0] + 1, before[1])
