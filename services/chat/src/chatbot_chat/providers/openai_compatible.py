"""Any server that speaks OpenAI's protocol, through the official SDK."""

import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2
import openai
import structlog
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from chatbot_chat.providers import (
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderUnreachable,
    openai_chunks,
)
from chatbot_chat.providers.errors import late, refusal, retry_after_of
from chatbot_chat.providers.patience import Patience, http_timeout
from chatbot_chat.settings import ProviderSettings

log = structlog.get_logger(__name__)

CLIENT_MISTAKES = (400, 413, 422)
"""What a provider says about the request itself is passed on; what it says about key, model or quota is not."""
_ABOUT_TOOLS = (openai.NotFoundError, openai.InternalServerError)
"""How OpenRouter and llama.cpp answer where a model has no tools."""
NO_KEY = "not-needed"  # the SDK insists on one; servers without keys ignore it


class OpenAICompatible:
    """One provider; its connections are shared by all its models."""

    protocol = "openai"

    def __init__(self, settings: ProviderSettings, api_key: str | None) -> None:
        self.name = settings.name
        self._timeouts = settings.timeouts
        self._dialects: defaultdict[str, set[str]] = defaultdict(set)
        """Model → parameters it has refused."""
        self._client = AsyncOpenAI(
            base_url=settings.base_url,
            api_key=api_key or NO_KEY,
            max_retries=0,  # routing.py retries, and knows who else could answer
            timeout=http_timeout(settings.timeouts),
        )
        self._completions = self._client.chat.completions  # imports what it is made of: now, not at the first question

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        with _translated(self.name):
            patience = Patience(self._timeouts)
            async with patience.wait():
                stream = await self._open(request)
            reading = openai_chunks.Reading()
            async with stream:
                async for chunk in patience.over(aiter(stream), openai_chunks.speaks):
                    for event in reading.events(chunk):
                        yield event
            if not reading.finished:
                raise ProviderError(f"Provider {self.name} ended its answer in the middle.")
            for event in reading.end():
                yield event

    async def _open(self, request: ModelRequest) -> AsyncStream[ChatCompletionChunk]:
        """Ask; what the model refuses is left out from then on, see docs/decisions/0006."""
        messages: Any = [openai_chunks.message(item) for item in request.messages]
        while True:
            options = openai_chunks.options(request, self._dialects[request.model])
            try:
                return await self._completions.create(
                    model=request.model, messages=messages, stream=True, extra_body=options
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError, *_ABOUT_TOOLS) as error:
                refused = openai_chunks.refused_option(error.body, options)
                if refused is None or (refused != "tools" and isinstance(error, _ABOUT_TOOLS)):
                    raise
                log.info("model refuses a parameter", provider=self.name, model=request.model, parameter=refused)
                self._dialects[request.model].add(refused)

    @contextlib.asynccontextmanager
    async def relay(self, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        """See `RelayingProvider`."""
        with _translated(self.name):
            response = await self._relay(dict(body))
        async with contextlib.aclosing(response):
            if not response.is_success and response.status_code not in CLIENT_MISTAKES:
                raise refusal(self.name, response.status_code, retry_after_of(response.headers))
            try:
                yield response
            except httpx2.HTTPError as error:  # met by whoever passes it on
                raise ProviderUnreachable(f"Provider {self.name} broke its answer off.") from error

    async def _relay(self, body: dict[str, Any]) -> httpx2.Response:
        """A stream is asked to count, unless the model is known to refuse that."""
        counted = {"stream_options": {"include_usage": True}}
        if not body.get("stream") or body.get("stream_options") or "stream_options" in self._dialects[body["model"]]:
            return await self._post(body)
        response = await self._post(body | counted)
        if response.status_code in CLIENT_MISTAKES and _refused(await response.aread(), counted):
            await response.aclose()
            self._dialects[body["model"]].add("stream_options")
            return await self._post(body)
        return response

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        http = self._client._client
        request = http.build_request(
            "POST",
            f"{str(self._client.base_url).rstrip('/')}/chat/completions",
            json=body,
            headers=self._client.auth_headers | {"Accept-Encoding": "identity"},
        )
        return await http.send(request, stream=True)

    async def close(self) -> None:
        await self._client.close()


def _refused(answer: bytes, sent: Mapping[str, Any]) -> str | None:
    """Which of the options a raw answer says that the model does not know."""
    try:
        return openai_chunks.refused_option(json.loads(answer), sent)
    except ValueError:
        return None


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """The one place where the SDK's errors become ours."""
    try:
        yield
    except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise late(name, error) from error
    except openai.APIStatusError as error:
        raise refusal(name, error.status_code, retry_after_of(error.response.headers)) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        raise ProviderUnreachable(f"Provider {name} cannot be reached, or the connection broke.") from error
    except (openai.APIError, json.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        raise ProviderError(f"Provider {name} sent something that is not an answer.") from error
