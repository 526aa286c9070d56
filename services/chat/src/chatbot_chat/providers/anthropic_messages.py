"""Anthropic's models, through the official SDK."""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

import anthropic
import httpx2
import structlog
from anthropic import AsyncAnthropic, AsyncStream
from anthropic.types import RawMessageStreamEvent

from chatbot_chat.providers import (
    ModelEvent,
    ModelRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderUnheld,
    Taken,
    anthropic_events,
)
from chatbot_chat.providers.anthropic_events import EFFORT
from chatbot_chat.providers.errors import ProviderUnsent, late, no_answer, refusal, retry_after_of, unreachable
from chatbot_chat.providers.held import SIMPLER, too_strict
from chatbot_chat.providers.patience import Patience, http_timeout, reader_of
from chatbot_chat.settings import ProviderSettings

log = structlog.get_logger(__name__)

NO_KEY = "not-needed"  # without one the SDK would look for other credentials in the environment


class Anthropic:
    """One provider; its connections are shared by all its models."""

    protocol = "anthropic"

    def __init__(self, settings: ProviderSettings, api_key: str | None) -> None:
        self.name = settings.name
        self._timeouts = settings.timeouts
        self._unforced: set[str] = set()
        """Models that have refused to be made to call a tool."""
        self._client = AsyncAnthropic(
            base_url=str(settings.base_url).rstrip("/").removesuffix("/v1"),  # the SDK adds the version itself
            api_key=api_key or NO_KEY,
            max_retries=0,  # routing.py retries, and knows who else could answer
            open_telemetry={"traces": {"enabled": False}},  # metering.py traces all providers alike
            timeout=http_timeout(settings.timeouts),
        )
        self._messages = self._client.messages  # imports what it is made of: now, and not at the first question

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        parameters = anthropic_events.parameters(request)  # a mistake in it is nothing that the provider did
        with _translated(self.name, request):
            patience = Patience(self._timeouts)
            async with patience.wait():
                stream = await self._open(parameters)
            reading = anthropic_events.Reading()
            async with stream, patience.listening(reader_of(stream), anthropic_events.speaks) as items:
                yield Taken()
                async for item in items:
                    for event in reading.events(item):
                        yield event
            if not reading.finished:
                raise ProviderError(f"Provider {self.name} ended its answer in the middle.")
            for event in reading.end():
                yield event

    async def _open(self, parameters: dict[str, Any]) -> AsyncStream[RawMessageStreamEvent]:
        """Ask; a model that cannot be made to call tools is only asked to from then on, see docs/decisions/0006."""
        wished = anthropic_events.unforced(parameters)
        if parameters["model"] in self._unforced:
            return await self._create(wished)
        try:
            return await self._create(parameters)
        except anthropic.BadRequestError as error:
            if wished == parameters or not anthropic_events.refuses_force(str(error)):
                raise
        stream = await self._create(wished)  # also refused, it was something else
        log.info("model cannot be made to call tools", provider=self.name, model=parameters["model"])
        self._unforced.add(parameters["model"])
        return stream

    async def _create(self, parameters: dict[str, Any]) -> AsyncStream[RawMessageStreamEvent]:
        asked = self._messages.create(**parameters, stream=True)
        return cast(AsyncStream[RawMessageStreamEvent], await asked)

    async def close(self) -> None:
        await self._client.close()


def _unheld(request: ModelRequest, said: str) -> tuple[str, str] | None:
    """The field that a refusal is about, and what to do instead."""
    if EFFORT in request.asked and "effort" in said:  # small models have none
        return EFFORT, "leave it out, or send another value"
    return ("tools", SIMPLER) if too_strict(request, said) else None


@contextlib.contextmanager
def _translated(name: str, request: ModelRequest) -> Iterator[None]:
    """The one place where the SDK's errors become ours."""
    try:
        yield
    except (TimeoutError, anthropic.APITimeoutError, httpx2.TimeoutException) as error:
        raise late(name, error) from error
    except anthropic.APIStatusError as error:
        if error.type == "overloaded_error":  # also in the middle of a stream, whose status was 200
            raise ProviderOverloaded(f"Provider {name} is overloaded; try again later.") from error
        if error.status_code == 400 and (found := _unheld(request, str(error))):
            raise ProviderUnheld(f"Provider {name}", *found) from error
        raise refusal(name, error.status_code, retry_after_of(error.response.headers)) from error
    except (anthropic.APIConnectionError, httpx2.TransportError) as error:
        raise unreachable(name) from error
    except UnicodeEncodeError as error:
        raise ProviderUnsent("Half a surrogate pair is no character; please leave it out.") from error
    except (anthropic.AnthropicError, json.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        raise no_answer(name) from error
