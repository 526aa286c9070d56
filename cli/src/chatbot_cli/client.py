"""A client of the public API, as a terminal needs it: ask, watch the events come in, cancel."""

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from chatbot_cli.calling import call
from chatbot_cli.errors import CliError

TIMEOUT = httpx2.Timeout(10, read=180)
"""Between two events there is a comment every 15 s; three minutes of silence are a broken connection."""
PAUSES_SECONDS = (0.5, 1.5, 4.0)
"""Before a torn stream is gone on with, once for each."""
ENDINGS = ("run.finished", "run.failed", "run.cancelled", "run.interrupted")


@dataclass(frozen=True)
class Event:
    """One event of a run. `data` always has `type`, `run_id`, `attempt` and `seq`."""

    type: str
    data: dict[str, Any]


class Client:
    """One signed-in user at one bot."""

    def __init__(self, url: str, sign_in: Callable[[], str]) -> None:
        """
        Args:
            url: of the gateway.
            sign_in: gives a fresh access token; called again when one has expired.
        """
        local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx2.Client(base_url=url.rstrip("/"), timeout=TIMEOUT, trust_env=not local)
        self._sign_in = sign_in
        self._token: str | None = None

    def close(self) -> None:
        self._http.close()

    def ask(self, text: str, conversation_id: str | None = None, model: str | None = None) -> Iterator[Event]:
        """Events of the run that answers `text`. Closing the iterator closes the connection, not the run.

        Raises:
            CliError: the request was refused, or the connection broke before the run ended.
        """
        body: dict[str, Any] = {"content": text, "client_message_id": str(uuid4())}
        body |= {"conversation_id": conversation_id} if conversation_id else {}
        body |= {"model": model} if model else {}
        yield from self._to_the_end("/api/v1/chat/send", body)

    def regenerate(self, conversation_id: str, message_id: str, model: str | None = None) -> Iterator[Event]:
        """Events of the run that answers the question of an answer once more; otherwise as `ask`."""
        path = f"/api/v1/conversations/{conversation_id}/messages/{message_id}/regenerate"
        body = {"client_message_id": str(uuid4())} | ({"model": model} if model else {})
        yield from self._to_the_end(path, body)

    def _to_the_end(self, path: str, body: dict[str, Any]) -> Iterator[Event]:
        """Each event once; a stream that is torn goes on where it was, as long as the bot is back in time."""
        seen = _Seen()
        stream = self._stream("POST", path, body)
        for pause in (*PAUSES_SECONDS, None):
            try:
                with contextlib.closing(stream) as found:
                    yield from seen.through(found)
            except httpx2.HTTPError as error:
                if not seen.run_id or pause is None:
                    raise _unreachable(str(self._http.base_url), error) from None
            except _Torn as torn:
                if not seen.run_id or pause is None:
                    raise torn.problem from None
            else:
                return
            time.sleep(pause)
            stream = self._stream("GET", seen.place)

    def _stream(self, method: str, path: str, body: dict[str, Any] | None = None) -> Generator[Event]:
        """Events of the response. Raises `CliError`, `httpx2.HTTPError`. _Torn: what goes on may be had again."""
        for again in (True, False):
            headers = self._headers() | {"Accept": "text/event-stream"}
            with self._http.stream(method, path, json=body, headers=headers) as response:
                if response.status_code == 401 and again:
                    self._token = None
                    continue
                if response.is_error:
                    response.read()
                    raise _Torn(refusal(response)) if _passes(response) else refusal(response)
                yield from events(response.iter_lines())
            return

    def answer(self, run_id: str, tool_call_id: str, approved: bool) -> Iterator[Event]:
        """Say whether a tool may be called; what follows is as `ask` tells it, or the questions that are left.

        Raises:
            CliError: it was answered before, or the connection broke.
        """
        path = f"/api/v1/chat/runs/{run_id}/approvals/{quote(tool_call_id, safe='')}"
        yield from self._to_the_end(path, {"approved": approved})

    def rate(self, conversation_id: str, message_id: str, rating: str, comment: str | None) -> None:
        """Say what an answer is worth.

        Raises:
            CliError: it was refused, or the connection broke.
        """
        path = f"/api/v1/conversations/{conversation_id}/messages/{message_id}/feedback"
        body = {"rating": rating} | ({"comment": comment} if comment else {})
        try:
            response = self._http.post(path, json=body, headers=self._headers())
            if response.status_code == 401:
                self._token = None
                response = self._http.post(path, json=body, headers=self._headers())
        except httpx2.HTTPError as error:
            raise _unreachable(str(self._http.base_url), error) from None
        if response.is_error:
            raise refusal(response)

    def cancel(self, run_id: str) -> bool:
        """Stop a run; False when it could not be reached or has ended."""
        try:
            path = f"/api/v1/chat/runs/{run_id}/cancel"
            return self._http.post(path, headers=self._headers(), timeout=5).is_success
        except httpx2.HTTPError:
            return False

    def _headers(self) -> dict[str, str]:
        self._token = self._token or self._sign_in()
        return {"Authorization": f"Bearer {self._token}"}


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Events of a server-sent stream; comments, unknown fields and data that is no JSON object are passed over."""
    data: list[str] = []
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
        elif data:
            if (event := _event("\n".join(data))) is not None:
                yield event
            data = []


def _event(text: str) -> Event | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return Event(str(data["type"]), data) if isinstance(data, dict) and "type" in data else None


class _Torn(Exception):
    """A stream was over before its run; what to tell where it cannot be gone on with."""

    def __init__(self, problem: CliError) -> None:
        super().__init__()
        self.problem = problem


@dataclass
class _Seen:
    """How far a run was followed."""

    run_id: str | None = None
    attempt: int = 0
    seq: int = 0

    @property
    def place(self) -> str:
        """Where the rest of it is."""
        return f"/api/v1/chat/runs/{self.run_id}/events?after={self.attempt}-{self.seq}"

    def through(self, stream: Iterator[Event]) -> Iterator[Event]:
        """What is new, until the run has ended. Raises `_Torn`."""
        for event in stream:
            at = int(event.data.get("attempt") or 0), int(event.data.get("seq") or 0)
            if at[1] and at <= (self.attempt, self.seq) and event.type != "run.snapshot":
                continue
            if at[1]:
                self.attempt, self.seq = at
            self.run_id = event.data.get("run_id") or self.run_id
            yield event
            if event.type in ENDINGS or (event.type == "tool.approval" and not event.data.get("more")):
                return
        lost = "The connection ended before the answer did."
        raise _Torn(CliError(lost, "It is being finished; look into the conversation."))


def _passes(response: httpx2.Response) -> bool:
    return response.status_code == 429 or response.status_code >= 500


def refusal(response: httpx2.Response) -> CliError:
    """A problem document, in words."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    title = str(problem.get("title") or f"The bot answered {response.status_code}")
    detail = str(problem.get("detail") or "")
    hints = {
        401: "The token is not valid any more; get a new one.",
        404: None,
        429: f"Try again in {response.headers.get('Retry-After', 'some')} s.",
        502: f"Look at: {call('status')}",
        503: f"Look at: {call('status')}",
    }
    trace = [f"trace {problem['trace_id']}"] if response.status_code >= 500 and "trace_id" in problem else []
    text = f"{title.rstrip('.')}. {detail}".strip() if detail else f"{title.rstrip('.')}."
    return CliError(text, hints.get(response.status_code), trace)


def _unreachable(url: str, error: httpx2.HTTPError) -> CliError:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return CliError(f"Nothing answers at {url}.", f"Is the bot up? Look at: {call('status')}")
    return CliError(f"The connection to {url} broke ({type(error).__name__}).", f"Look at: {call('status')}")
