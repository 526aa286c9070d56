"""A client of the public API, as a terminal needs it: ask, watch the events come in, cancel."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from chatbot_cli.calling import call
from chatbot_cli.errors import CliError

TIMEOUT = httpx2.Timeout(10, read=180)
"""Between two events there is a comment every 15 s; three minutes of silence are a broken connection."""
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
        yield from self._reached(self._ask("/api/v1/chat/send", body, again=True))

    def regenerate(self, conversation_id: str, message_id: str, model: str | None = None) -> Iterator[Event]:
        """Events of the run that answers the question of an answer once more; otherwise as `ask`."""
        path = f"/api/v1/conversations/{conversation_id}/messages/{message_id}/regenerate"
        body = {"client_message_id": str(uuid4())} | ({"model": model} if model else {})
        yield from self._reached(self._ask(path, body, again=True))

    def _reached(self, events: Iterator[Event]) -> Iterator[Event]:
        try:
            yield from events
        except httpx2.HTTPError as error:
            raise _unreachable(str(self._http.base_url), error) from None

    def _ask(self, path: str, body: dict[str, Any], *, again: bool) -> Iterator[Event]:
        headers = self._headers() | {"Accept": "text/event-stream"}
        with self._http.stream("POST", path, json=body, headers=headers) as response:
            if response.status_code == 401 and again:
                self._token = None
            elif response.is_error:
                response.read()
                raise refusal(response)
            else:
                yield from _until_end(events(response.iter_lines()))
                return
        yield from self._ask(path, body, again=False)

    def answer(self, run_id: str, tool_call_id: str, approved: bool) -> Iterator[Event]:
        """Say whether a tool may be called; what follows is as `ask` tells it, or the questions that are left.

        Raises:
            CliError: it was answered before, or the connection broke.
        """
        path = f"/api/v1/chat/runs/{run_id}/approvals/{quote(tool_call_id, safe='')}"
        yield from self._reached(self._ask(path, {"approved": approved}, again=True))

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


def _until_end(stream: Iterator[Event]) -> Iterator[Event]:
    for event in stream:
        yield event
        if event.type in ENDINGS or (event.type == "tool.approval" and not event.data.get("more")):
            return
    raise CliError("The connection ended before the answer did.", "It is being finished; look into the conversation.")


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
