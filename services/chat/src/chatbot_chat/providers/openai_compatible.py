"""Any server that speaks OpenAI's protocol."""

import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

import structlog

from chatbot_chat.providers import (
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderUnheld,
    Taken,
    openai_chunks,
)
from chatbot_chat.providers.errors import ProviderFiltered, no_answer, refusal, retry_after_of, unanswered
from chatbot_chat.providers.held import SIMPLER, too_strict
from chatbot_chat.providers.openai_chunks import UNSIGNED, Chunk, lacks_signature
from chatbot_chat.providers.passing import Passed
from chatbot_chat.providers.patience import Patience
from chatbot_chat.providers.relaying import Relay, Relayed
from chatbot_chat.providers.server_sent import Events
from chatbot_chat.settings import ProviderSettings

log = structlog.get_logger(__name__)

CLIENT_MISTAKES = (400, 413, 422)
"""What a provider says about the request itself is passed on; what it says about key, model or quota is not."""
_ABOUT_OPTIONS = (400, 422)
OPENAI = "https://api.openai.com/v1"
NO_KEY = "not-needed"  # servers without keys ignore it
_DONE = b"[DONE]"
Find = Callable[[object, Mapping[str, Any]], str | None]
_FILTERED = b'"content_filter"'


class OpenAICompatible:
    """One provider; its connections are shared by all its models."""

    protocol = "openai"

    def __init__(self, settings: ProviderSettings, api_key: str | None) -> None:
        self.name = settings.name
        self._timeouts = settings.timeouts
        self._dialects: defaultdict[str, set[str]] = defaultdict(set)
        """Model → parameters it has refused."""
        url = f"{(settings.base_url or OPENAI).rstrip('/')}/chat/completions"
        self._relay = Relay(settings.name, url, {"Authorization": f"Bearer {api_key or NO_KEY}"}, settings.timeouts)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        with _translated(self.name):
            patience = Patience(self._timeouts)
            async with patience.wait():
                answer = await self._open(request)
            reading = openai_chunks.Reading()
            async with contextlib.aclosing(answer), patience.listening(_chunks(answer), _speak) as heard:
                yield Taken()
                async for chunks in heard:
                    for chunk in chunks:
                        for event in reading.events(chunk):
                            yield event
            if not reading.finished:
                raise ProviderError(f"Provider {self.name} ended its answer in the middle.")
            for event in reading.end():
                yield event

    async def _open(self, request: ModelRequest) -> Relayed:
        """Ask; what the model refuses is left out once it has answered without, see docs/decisions/0006."""
        dialect = self._dialects[request.model]
        left: set[str] = set()
        while True:
            refused = dialect | left
            messages = [openai_chunks.message(item, refused) for item in request.messages]
            options = openai_chunks.options(request, refused)
            body = {"model": request.model, "messages": messages, "stream": True} | options
            answer = await self._relay.post(body)
            if 200 <= answer.status < 300:
                dialect |= left  # also refused, it was something else
                return answer
            async with contextlib.aclosing(answer):
                found = self._refused(answer, await answer.refusal(), request, options, UNSIGNED in refused)
            log.info("model refuses a parameter", provider=self.name, model=request.model, parameter=found)
            left.add(found)

    def _refused(
        self, answer: Relayed, said: bytes, request: ModelRequest, options: Mapping[str, Any], signed: bool
    ) -> str:
        """What the model refuses of what may be left out. Raises `ProviderError` where it is something else."""
        about = answer.status in _ABOUT_OPTIONS
        asked = request.asked if about else {}
        wishes = {name: value for name, value in request.wishes.items() if about and name in options}
        unheld = _read(said, openai_chunks.blamed, asked)
        if answer.status == 400 and not signed and lacks_signature(said):
            return UNSIGNED
        if about and not unheld and too_strict(request, said.decode(errors="replace")):
            raise ProviderUnheld(f"Provider {self.name}", "tools", SIMPLER)
        refused = _refused_by(answer.status, said, options) or _read(said, openai_chunks.unwanted, wishes)
        if refused and not unheld:
            return refused
        if answer.status == 400 and _FILTERED in said:
            raise ProviderFiltered(f"The filter of provider {self.name} refused the question; please rephrase it.")
        unheld = unheld or _read(said, openai_chunks.mentioned, asked) or _read(said, openai_chunks.blamed, wishes)
        if unheld:
            raise ProviderUnheld(f"Provider {self.name}", unheld, "leave it out, or send another value")
        raise refusal(self.name, answer.status, retry_after_of(answer.headers))

    @contextlib.asynccontextmanager
    async def relay(
        self,
        body: Mapping[str, Any],
        spoke: Callable[[], None],
        longest: int | None = None,
        taken: Callable[[], None] | None = None,
    ) -> AsyncIterator[Passed]:
        """See `RelayingProvider`."""
        patience = Patience(self._timeouts, streamed=bool(body.get("stream")))
        with _translated(self.name):
            async with patience.wait():
                answer = await self._asked(dict(body), longest, taken)
        async with contextlib.aclosing(answer):
            told = answer.status in CLIENT_MISTAKES and not answer.encoding
            if not 200 <= answer.status < 300 and not told:
                raise refusal(self.name, answer.status, retry_after_of(answer.headers))
            yield Passed(answer, patience, spoke)

    async def _asked(self, body: dict[str, Any], longest: int | None, taken: Callable[[], None] | None) -> Relayed:
        """With what we add, unless the model is known to refuse that."""
        refused = self._dialects[body["model"]]
        while added := openai_chunks.added(body, longest, refused):
            answer = await self._relay.post(body | added, taken)
            if answer.status not in CLIENT_MISTAKES:
                return answer
            async with contextlib.aclosing(answer):
                unknown = _read(await answer.refusal(), openai_chunks.refused_option, added)
            if unknown is None:
                break
            refused.add(unknown)
        return await self._relay.post(body, taken)

    async def close(self) -> None:
        await self._relay.close()


async def _chunks(answer: Relayed) -> AsyncGenerator[list[Chunk], None]:
    """Those that came together, some at least, until the stream says that it has ended."""
    events = Events()
    async with contextlib.aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
            said, chunks = events.feed(piece), list[Chunk]()
            with contextlib.suppress(ValueError):  # raised below: what came before it is part of the answer
                chunks.extend(map(_chunk, takewhile(_goes_on, said)))
            if chunks:
                yield chunks
            if len(chunks) < len(said):
                if _goes_on(said[len(chunks)]):
                    raise ValueError("no chunk of an answer")
                break
    await answer.drain()


def _goes_on(data: bytes) -> bool:
    return not data.startswith(_DONE)


def _chunk(data: bytes) -> Chunk:
    """Raises `ValueError`, also for a failure that is told in the middle of a stream."""
    chunk = json.loads(data.decode())
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise ValueError("no chunk of an answer")
    return chunk


def _speak(chunks: list[Chunk]) -> bool:
    return any(map(openai_chunks.speaks, chunks))


def _refused_by(status: int, answer: bytes, options: Mapping[str, Any]) -> str | None:
    """Which of the options an error is about. OpenRouter says 404, llama.cpp 500 where a model has no tools."""
    if status not in _ABOUT_OPTIONS and status != 404 and status < 500:
        return None
    refused = _read(answer, openai_chunks.refused_option, options)
    return refused if refused == "tools" or status in _ABOUT_OPTIONS else None


def _read(answer: bytes, find: Find, sent: Mapping[str, Any]) -> str | None:
    """What is found in a raw answer about one of the options."""
    try:
        return find(json.loads(answer), sent)
    except ValueError:
        return find(answer.decode(errors="replace"), sent)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """What is no answer, or does not come in time, becomes an error of the provider."""
    try:
        yield
    except TimeoutError as error:
        raise unanswered(name) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise no_answer(name) from error
