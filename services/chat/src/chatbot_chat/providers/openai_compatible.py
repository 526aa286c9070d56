"""Any server that speaks OpenAI's protocol, through the official SDK."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, Literal

import httpx2
import openai
import structlog
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from chatbot_chat.providers import (
    Finish,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    TextDelta,
    Usage,
)
from chatbot_chat.settings import ProviderSettings

log = structlog.get_logger(__name__)

_REASONS: Mapping[str, Literal["stop", "length", "content_filter"]] = {
    "length": "length",
    "content_filter": "content_filter",
}
CLIENT_MISTAKES = (400, 413, 422)
"""What a provider says about the request itself is passed on; what it says about key, model or quota is not."""
NO_KEY = "not-needed"  # the SDK insists on one; servers without keys ignore it


class OpenAICompatible:
    """One provider; its connections are shared by all its models."""

    def __init__(self, settings: ProviderSettings, api_key: str | None) -> None:
        self.name = settings.name
        self._timeouts = settings.timeouts
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._dialects: defaultdict[str, set[str]] = defaultdict(set)
        """Model → parameters it has refused."""
        self._client = AsyncOpenAI(
            base_url=settings.base_url,
            api_key=api_key or NO_KEY,
            max_retries=1,
            timeout=httpx2.Timeout(
                settings.timeouts.first_token, connect=settings.timeouts.connect, pool=settings.timeouts.connect
            ),
        )

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        async with self._slot():
            with _translated(self.name):
                stream = await self._open(request)
                try:
                    async for event in self._events(stream):
                        yield event
                finally:
                    await stream.close()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of `maxConcurrency` places; who waits longer than a connection may take is told to come back."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._slots.acquire()
        except TimeoutError:
            raise ProviderOverloaded(f"Provider {self.name} has no free place; try again shortly.") from None
        try:
            yield
        finally:
            self._slots.release()

    async def _open(self, request: ModelRequest) -> AsyncStream[ChatCompletionChunk]:
        while True:
            options = _options(request, self._dialects[request.model])
            try:
                async with asyncio.timeout(self._timeouts.connect + self._timeouts.first_token):
                    return await self._client.chat.completions.create(
                        model=request.model,
                        messages=[_message(item) for item in request.messages],
                        stream=True,
                        stream_options={"include_usage": True},
                        extra_body=options,
                    )
            except openai.BadRequestError as error:
                if error.param not in options:
                    raise
                log.info("model refuses a parameter", provider=self.name, model=request.model, parameter=error.param)
                self._dialects[request.model].add(error.param)

    async def _events(self, stream: AsyncStream[ChatCompletionChunk]) -> AsyncGenerator[ModelEvent, None]:
        """Translate chunks; each wait is bounded, and a stream that just stops is an error, not an answer."""
        finish: Finish | None = None
        patience = self._timeouts.first_token
        chunks = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(patience):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            patience = self._timeouts.idle
            if chunk.usage:
                yield Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            for choice in chunk.choices[:1]:
                if choice.delta and choice.delta.content:
                    yield TextDelta(whole_characters(choice.delta.content))
                if choice.finish_reason:
                    finish = Finish(_REASONS.get(choice.finish_reason, "stop"))
        if finish is None:
            raise ProviderError(f"Provider {self.name} ended its answer in the middle.")
        yield finish

    @contextlib.asynccontextmanager
    async def relay(self, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        """See `RelayingProvider`."""
        async with self._slot():
            with _translated(self.name):
                http = self._client._client
                request = http.build_request(
                    "POST",
                    f"{str(self._client.base_url).rstrip('/')}/chat/completions",
                    json=dict(body),
                    headers=self._client.auth_headers | {"Accept-Encoding": "identity"},
                )
                response = await http.send(request, stream=True)
            async with contextlib.aclosing(response):
                if not response.is_success and response.status_code not in CLIENT_MISTAKES:
                    raise refusal(self.name, response.status_code)
                yield response

    async def close(self) -> None:
        await self._client.close()


def whole_characters(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can carry them, UTF-8 and Postgres cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _options(request: ModelRequest, refused: set[str]) -> dict[str, Any]:
    """Parameters that models disagree about, without those this one has refused.

    `max_tokens` is the one every server knows; OpenAI's reasoning models insist on the newer name and on their own
    temperature, and say so in the error's `param`.
    """
    bound = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    options = {bound: request.max_tokens, "temperature": request.temperature}
    return {name: value for name, value in options.items() if name not in refused}


def refusal(name: str, status: int) -> ProviderError:
    """What a provider's error status means for our client: its 401 is about our key, not theirs."""
    if status in (429, 503, 529):
        return ProviderOverloaded(f"Provider {name} answered {status}; try again later.")
    if status in (401, 403):
        return ProviderRefused(f"Provider {name} refused its API key ({status}); an administrator must mend it.")
    if status == 404:
        return ProviderRefused(f"Provider {name} does not know the configured model (404).")
    return ProviderError(f"Provider {name} answered {status}.")


def _message(message: Message) -> ChatCompletionMessageParam:
    match message.role:
        case "system":
            return {"role": "system", "content": message.content}
        case "user":
            return {"role": "user", "content": message.content}
        case "assistant":
            return {"role": "assistant", "content": message.content}


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """The one place where the SDK's errors become ours."""
    try:
        yield
    except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise ProviderTimeout(f"Provider {name} did not answer in time.") from error
    except openai.APIStatusError as error:
        raise refusal(name, error.status_code) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        raise ProviderUnreachable(f"Provider {name} cannot be reached, or the connection broke.") from error
    except (openai.APIError, json.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        raise ProviderError(f"Provider {name} sent something that is not an answer.") from error
