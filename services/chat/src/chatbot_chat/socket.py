"""`GET /chat/ws`: the same runs over a WebSocket. A socket watches runs as a stream does; closing it stops none.

The gateway lets the client in and brings the access token as a header; it is verified here as on every route, again
for each event, and a fresh one may come in a frame.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from chatbot_common.errors import (
    InvalidRequest,
    NotFound,
    Problem,
    TooManyRequests,
    Unauthenticated,
    from_validation,
)
from chatbot_common.identity import Identity, User, bearer
from chatbot_common.ids import uuid7
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from chatbot_chat.frames import FRAMES, AnyFrame, Approve, Auth, Message, Ping, Resume, Stop
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.routes import start_of
from chatbot_chat.runs.events import Event, Position
from chatbot_chat.runs.service import RunService

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/api/v1/chat")

UNAUTHENTICATED, FORBIDDEN, TIMED_OUT = 4401, 4403, 4408
NO_TEXT, CRASHED, RESTARTING = 1003, 1011, 1012
IDLE_SECONDS = 15 * 60.0
"""A socket on which nothing is asked and no run is followed ends after this time."""
SEND_SECONDS = 30.0
"""How long a client may take to read one frame."""
MAX_FOLLOWED = 16


class Closed(Exception):
    """The socket has to end, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@router.websocket("/ws")
async def chat_socket(websocket: WebSocket) -> None:
    """Accepted first: a browser learns why it was refused only from a close code."""
    await websocket.accept()
    try:
        await Socket(websocket, await _user(websocket)).run()
    except WebSocketDisconnect:
        pass
    except Closed as end:
        await websocket.close(end.code, str(end))
    except Problem as problem:
        await websocket.close(RESTARTING, str(problem))
    except Exception as crash:
        log.error("socket crashed", exc_info=crash)
        await websocket.close(CRASHED, Problem.title)


async def _user(websocket: WebSocket) -> User:
    token = bearer(websocket.headers.get("authorization"))
    if token is None:
        raise Closed(UNAUTHENTICATED, "Connect through the gateway, with a ticket or a token.")
    return await _verified(websocket, token)


async def _verified(websocket: WebSocket, token: str) -> User:
    identity: Identity = websocket.app.state.identity
    try:
        user = await identity.users.verify(token)
    except Unauthenticated as problem:
        raise Closed(UNAUTHENTICATED, str(problem)) from None
    if user.key:
        raise Closed(FORBIDDEN, "An API key opens no socket; sign in.")
    return user


class Socket:
    """One connection of one user, and the runs it follows."""

    def __init__(self, websocket: WebSocket, user: User) -> None:
        self._websocket = websocket
        self._user = user
        self._runs: RunService = websocket.app.state.runs
        self._catalog: Catalog = websocket.app.state.catalog
        self._followed: dict[UUID, asyncio.Task[None]] = {}
        self._last: UUID | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Until the client leaves. Raises `Closed`, `WebSocketDisconnect`."""
        own = [self._task(self._read()), self._task(self._expire())]
        try:
            await self._over
        finally:
            tasks = [*own, *self._followed.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """One whose failure ends the socket: the token has expired, or the client does not read, or has gone."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) and not self._over.done():
            self._over.set_exception(failure)

    async def _read(self) -> None:
        while True:
            text, frame = await self._next(), None
            try:
                await self._take(frame := _parsed(text))
            except Problem as problem:
                await self._send(_error(problem, frame))

    async def _next(self) -> str:
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    text: str | None = await self._websocket.receive_text()
                if text is not None:
                    return text
                raise KeyError
            except TimeoutError:
                if not self._followed:
                    raise Closed(TIMED_OUT, "Nothing was asked for a while; connect again when needed.") from None
            except KeyError:
                raise Closed(NO_TEXT, "Frames are JSON texts, not bytes.") from None

    async def _take(self, frame: AnyFrame) -> None:
        """Raises `Problem`: the frame was refused; the socket goes on."""
        if not isinstance(frame, Auth):
            self._check()
        match frame:
            case Message():
                await self._ask(frame)
            case Resume():
                await self._resume(frame)
            case Stop():
                await self._stop(frame.run_id)
            case Approve():
                await self._approve(frame)
            case Auth():
                await self._renew(frame.token)
            case Ping():
                await self._send({"type": "pong"})

    async def _ask(self, message: Message) -> None:
        self._refuse_more()
        model = self._catalog.named(message.model)
        turn = await self._runs.send(self._user, start_of(message, str(uuid7())), model, message.language)
        self._follow(turn.turn_id, self._runs.events(self._user, turn, Position()))

    async def _resume(self, frame: Resume) -> None:
        try:
            position = Position.parse(str(frame.after) if frame.after is not None else None)
        except ValueError as error:
            raise InvalidRequest("after must be a number, or a text such as 1-17.") from error
        if frame.run_id not in self._followed:
            self._refuse_more()
        turn = await self._runs.turn(self._user, frame.run_id)
        self._follow(turn.turn_id, self._runs.events(self._user, turn, position))

    async def _approve(self, frame: Approve) -> None:
        """The next attempt is followed here; while other calls wait, it is told which."""
        if frame.run_id not in self._followed:
            self._refuse_more()
        turn = await self._runs.approve(self._user, frame.run_id, frame.tool_call_id, frame.approved)
        self._follow(turn.turn_id, self._runs.events(self._user, turn, Position()))

    async def _stop(self, run_id: UUID | None) -> None:
        wanted = run_id or self._last
        if wanted is None:
            raise NotFound("No run was begun on this socket; name one by run_id.")
        await self._runs.cancel(self._user, wanted)

    async def _renew(self, token: str) -> None:
        user = await _verified(self._websocket, token)
        if user.id != self._user.id:
            raise Closed(FORBIDDEN, "This token belongs to somebody else; open another socket for it.")
        self._user = user

    def _refuse_more(self) -> None:
        if len(self._followed) >= MAX_FOLLOWED:
            raise TooManyRequests(f"This socket follows {MAX_FOLLOWED} runs; wait until one has ended.")

    def _follow(self, run_id: UUID, events: AsyncIterator[Event]) -> None:
        """In place of whoever follows the same run here already."""
        if before := self._followed.pop(run_id, None):
            before.cancel()
        self._last = run_id
        self._followed[run_id] = task = self._task(self._pass_on(run_id, events))
        task.add_done_callback(lambda done: self._followed.pop(run_id) if self._followed.get(run_id) is done else None)

    async def _pass_on(self, run_id: UUID, events: AsyncIterator[Event]) -> None:
        try:
            async for event in events:
                self._check()
                await self._send(event.as_dict())
                if event.type == "run.finished":
                    await self._send(_response(event))
        except Problem as problem:
            await self._send(_error(problem) | {"run_id": str(run_id)})

    async def _expire(self) -> None:
        """A socket on which nothing is said ends with its token, too: a session that was ended gets no other."""
        while True:
            await asyncio.sleep(self._user.expires_at - time.time())
            self._check()

    def _check(self) -> None:
        if self._user.expires_at <= time.time():
            raise Closed(UNAUTHENTICATED, "The access token has expired; send a fresh one in time with `auth`.")

    async def _send(self, body: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._websocket.send_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
        except TimeoutError:
            raise Closed(TIMED_OUT, "Frames were not read in time.") from None


def _parsed(text: str) -> AnyFrame:
    try:
        return FRAMES.validate_json(text)
    except ValidationError as error:
        raise from_validation(RequestValidationError(error.errors())) from None


def _error(problem: Problem, frame: AnyFrame | None = None) -> dict[str, Any]:
    """What went wrong, and with which frame."""
    named = frame.model_dump(mode="json", include={"run_id", "client_message_id"}, exclude_none=True) if frame else {}
    return {"type": "error", "error": problem.as_json()} | named


def _response(event: Event) -> dict[str, Any]:
    """The whole answer in one frame, for clients that want no more."""
    names = ("content", "conversation_id", "message_id", "finish_reason")
    said = {name: event.data[name] for name in names if name in event.data}
    return {"type": "response"} | said | {"timestamp": datetime.now(UTC).isoformat()}
