"""Any server that speaks OpenAI's protocol, through the official SDK."""

import contextlib
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx2
import openai
import structlog
from chatbot_common import upstream
from chatbot_common.http import UpstreamTransport, origin
from openai import AsyncOpenAI, AsyncStream

from chatbot_chat.providers import (
    ModelEvent,
    ModelRequest,
    ProviderError,
    Taken,
    openai_chunks,
)
from chatbot_chat.providers.errors import late, refusal, retry_after_of, unreachable
from chatbot_chat.providers.patience import Patience, http_timeout, reader_of
from chatbot_chat.providers.relaying import Relay, Relayed, proxy_of
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
            http_client=_http_client(settings),
        )
        url = f"{str(self._client.base_url).rstrip('/')}/chat/completions"
        self._relay = Relay(settings.name, url, self._client.auth_headers, settings.timeouts)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        with _translated(self.name):
            patience = Patience(self._timeouts)
            async with patience.wait():
                stream = await self._open(request)
            reading = openai_chunks.Reading()
            async with stream, patience.listening(reader_of(stream), openai_chunks.speaks) as chunks:
                yield Taken()
                async for chunk in chunks:
                    for event in reading.events(chunk):
                        yield event
            if not reading.finished:
                raise ProviderError(f"Provider {self.name} ended its answer in the middle.")
            for event in reading.end():
                yield event

    async def _open(self, request: ModelRequest) -> AsyncStream[object]:
        """Ask; what the model refuses is left out from then on, see docs/decisions/0006."""
        messages = [openai_chunks.message(item) for item in request.messages]
        while True:
            options = openai_chunks.options(request, self._dialects[request.model])
            body = {"model": request.model, "messages": messages, "stream": True} | options
            try:
                return await self._client.post(
                    "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=AsyncStream[object]
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError, *_ABOUT_TOOLS) as error:
                refused = openai_chunks.refused_option(error.body, options)
                if refused is None or (refused != "tools" and isinstance(error, _ABOUT_TOOLS)):
                    raise
                log.info("model refuses a parameter", provider=self.name, model=request.model, parameter=refused)
                self._dialects[request.model].add(refused)

    @contextlib.asynccontextmanager
    async def relay(
        self, body: Mapping[str, Any], spoke: Callable[[], None], longest: int | None = None
    ) -> AsyncIterator[Relayed]:
        """See `RelayingProvider`."""
        answer = await self._asked(dict(body), spoke, longest)
        with contextlib.closing(answer):
            if not 200 <= answer.status < 300 and answer.status not in CLIENT_MISTAKES:
                raise refusal(self.name, answer.status, retry_after_of(answer.headers))
            if not answer.streamed:
                spoke()
            yield answer

    async def _asked(self, body: dict[str, Any], spoke: Callable[[], None], longest: int | None) -> Relayed:
        """With what we add, unless the model is known to refuse that."""
        refused = self._dialects[body["model"]]
        while added := openai_chunks.added(body, longest, refused):
            answer = await self._relay.post(body | added, spoke)
            if answer.status not in CLIENT_MISTAKES:
                return answer
            with contextlib.closing(answer):
                unknown = _refused(await answer.whole(), added)
            if unknown is None:
                break
            refused.add(unknown)
        return await self._relay.post(body, spoke)

    async def close(self) -> None:
        await self._relay.close()
        await self._client.close()


def _http_client(settings: ProviderSettings) -> httpx2.AsyncClient | None:
    """Over our own client, at a fifth of the CPU for each chunk; None, the SDK's own, behind a proxy."""
    url, timeouts = settings.base_url or "https://api.openai.com/v1", settings.timeouts
    if proxy_of(url):
        return None
    patience = upstream.Patience(timeouts.connect, max(timeouts.first_token, timeouts.idle))
    trusted: ssl.SSLContext | None = httpx2.create_ssl_context() if url.startswith("https:") else None
    server = upstream.Upstream(origin(url), patience, trusted)
    return openai.DefaultAsyncHttpxClient(transport=UpstreamTransport(server), follow_redirects=False)


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
        raise unreachable(name) from error
    except (openai.APIError, json.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        raise ProviderError(f"Provider {name} sent something that is not an answer.") from error
