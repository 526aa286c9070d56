"""The door for sockets: lets a client in, and passes frames between it and chat.

Everything is refused after the handshake, with a close code: a browser is told nothing of a refused one. A message
costs as much of the limits as a request.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import structlog
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from chatbot_common.errors import Forbidden, Problem, TooManyRequests, Unauthenticated, Unavailable
from chatbot_common.identity import UserVerifier, bearer
from chatbot_common.ids import uuid7
from chatbot_common.telemetry import HTTP_REQUESTS
from prometheus_client import Gauge
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from chatbot_gateway.api_keys import NO_KEYS, PREFIX
from chatbot_gateway.headers import to_upstream
from chatbot_gateway.limits import Limiter, subject_of_address
from chatbot_gateway.proxy import UPSTREAM_ERRORS
from chatbot_gateway.settings import Settings
from chatbot_gateway.tickets import Tickets

log = structlog.get_logger(__name__)

PATH = "/api/v1/chat/ws"
PROTOCOL = "chatbot.v1"
TOKEN_PROTOCOL = "bearer."  # noqa: S105 - what comes before a token
NO_TEXT, TOO_LARGE, RESTARTING, TOO_SLOW = 1003, 1009, 1012, 4408
CODES = {401: 4401, 403: 4403, 429: 4429}
"""Close codes of problems, by their status; any other says: come back."""
PASSED_ON = frozenset((1000, 1003, 1009, 1011, 1012))
"""Close codes that chat may send beside those from 4000 on; any other end is a broken connection."""
CONNECT_SECONDS = 5.0
PING_SECONDS = 20.0
SEND_SECONDS = 30.0
"""How long a client may leave what it is sent unread."""
PER_USER = 32
"""Sockets of one user that one gateway holds: tabs and devices, not a way to fill it up."""
REASON_BYTES = 120
FREE = ("ping", "stop", "auth")
"""Frames that are no request; who wants to stop must not be kept from it."""


OPEN = Gauge("gateway_sockets_open", "Sockets that are open")


class Closed(Exception):
    """The socket has to end, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Sockets:
    """ASGI app of the socket's route."""

    def __init__(self, settings: Settings, users: UserVerifier, limiter: Limiter, tickets: Tickets) -> None:
        self._url = settings.upstreams.chat.rstrip("/") + PATH
        self._origins = frozenset(settings.cors_allow_origins)
        self._max_bytes = settings.max_body_bytes
        self._users = users
        self._limiter = limiter
        self._tickets = tickets
        self._open = Counter[str]()
        """Sockets by user."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = WebSocket(scope, receive, send)
        await client.accept(PROTOCOL if PROTOCOL in client.scope["subprotocols"] else None)
        started = time.monotonic()
        try:
            await self._serve(client)
        except WebSocketDisconnect as end:
            code, reason = end.code, ""
        except Closed as end:
            code, reason = end.code, str(end)
        except Problem as problem:
            code, reason = CODES.get(problem.status, RESTARTING), str(problem)
        log.info("socket", code=code, seconds=round(time.monotonic() - started, 1))
        if WebSocketState.DISCONNECTED not in (client.client_state, client.application_state):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await client.close(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"))

    async def _serve(self, client: WebSocket) -> None:
        """Raises `Closed`, `WebSocketDisconnect`, and problems of who may not come in."""
        with contextlib.ExitStack() as held:
            try:
                subject = await self._enter(client)
                held.enter_context(self._place(subject))
                chat = await self._connect(client)
            except Problem as problem:
                _count("GET", problem.status)
                raise
            _count("GET", 101)
            async with chat:
                await self._relay(client, chat, subject)

    @contextlib.contextmanager
    def _place(self, subject: str) -> Iterator[None]:
        """One of a user's sockets. Raises `TooManyRequests`."""
        if self._open[subject] >= PER_USER:
            raise TooManyRequests(f"You have {PER_USER} open sockets; close one before you open another.")
        self._open[subject] += 1
        OPEN.inc()
        try:
            yield
        finally:
            OPEN.dec()
            self._open[subject] -= 1
            if not self._open[subject]:
                del self._open[subject]

    async def _enter(self, client: WebSocket) -> str:
        """Whose limits the socket spends. Who is refused spends those of their address, before they are told."""
        try:
            self._check_origin(client)
            client.state.token = await self._token(client)
            user = await self._users.verify(client.state.token)
            if user.key:
                raise Forbidden(NO_KEYS)
            subject = f"user:{user.id}"
        except (Forbidden, Unauthenticated):
            await self._limiter.spend(subject_of_address(client.client.host if client.client else ""))
            raise
        await self._limiter.spend(subject)
        return subject

    async def _connect(self, client: WebSocket) -> ClientWebSocketResponse:
        session: ClientSession = client.app.state.session
        headers = to_upstream(client.scope, str(uuid7()))
        try:
            return await session.ws_connect(
                self._url,
                headers=[*_without_credentials(headers), ("Authorization", f"Bearer {client.state.token}")],
                heartbeat=PING_SECONDS,
                max_msg_size=0,
                timeout=ClientWSTimeout(ws_close=CONNECT_SECONDS),
            )
        except (ClientError, TimeoutError) as error:
            UPSTREAM_ERRORS.labels("chat", "unreachable").inc()
            log.warning("chat did not answer", error=type(error).__name__)
            raise Unavailable("The chat service cannot be reached; connect again shortly.") from error

    def _check_origin(self, client: WebSocket) -> None:
        """Only pages of ours, and those the bot allows; whoever is no browser names no origin."""
        origin = client.headers.get("origin")
        if origin is None or self._origins & {origin, "*"}:
            return
        if origin.partition("://")[2] != client.headers.get("host"):
            raise Forbidden("Pages of this origin may not connect; see spec.exposure.cors.allowOrigins.")

    async def _token(self, client: WebSocket) -> str:
        if ticket := client.query_params.get("ticket"):
            return await self._tickets.redeem(ticket)
        offered = [name for name in client.scope["subprotocols"] if name.startswith(TOKEN_PROTOCOL)]
        token = offered[0].removeprefix(TOKEN_PROTOCOL) if offered else bearer(client.headers.get("authorization"))
        if token and token.startswith(PREFIX):
            raise Forbidden(NO_KEYS)
        if not token:
            raise Unauthenticated("Connect with ?ticket= or with the protocols chatbot.v1 and bearer.TOKEN.")
        return token

    async def _relay(self, client: WebSocket, chat: ClientWebSocketResponse, subject: str) -> None:
        """Until either side ends. Raises what ended it."""
        ways = [
            asyncio.ensure_future(self._to_chat(client, chat, subject)),
            asyncio.ensure_future(_to_client(chat, client)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _to_chat(self, client: WebSocket, chat: ClientWebSocketResponse, subject: str) -> None:
        while True:
            message = await client.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text = message.get("text")
            if text is None:
                raise Closed(NO_TEXT, "Frames are JSON texts, not bytes.")
            if len(text.encode()) > self._max_bytes:
                raise Closed(TOO_LARGE, f"A frame may have at most {self._max_bytes} bytes.")
            frame = _frame(text)
            if frame.get("type") == "auth" and str(frame.get("token")).strip().startswith(PREFIX):
                raise Closed(CODES[403], NO_KEYS)
            if frame.get("type") not in FREE:
                await self._limiter.spend(subject)
                _count("MESSAGE", 202)
            try:
                await chat.send_str(text)
            except (ClientError, ConnectionError) as error:
                raise _broken() from error


async def _to_client(chat: ClientWebSocketResponse, client: WebSocket) -> None:
    while (message := await chat.receive()).type is WSMsgType.TEXT:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await client.send_text(message.data)
        except TimeoutError:
            raise Closed(TOO_SLOW, "You do not read what you are sent.") from None
    if message.type is WSMsgType.CLOSE and (message.data >= 4000 or message.data in PASSED_ON):
        raise Closed(message.data, message.extra or "")
    raise _broken()


def _broken() -> Closed:
    UPSTREAM_ERRORS.labels("chat", "broken").inc()
    return Closed(RESTARTING, "The connection to the chat service broke; connect again and resume.")


def _count(method: str, status: int) -> None:
    """As requests are counted, so that whoever scales by them sees that somebody asks."""
    HTTP_REQUESTS.labels(method, PATH, status).inc()


def _frame(text: str) -> dict[str, Any]:
    """What a client sends, as far as it can be read: chat tells it what is wrong. It counts as a request then."""
    try:
        frame: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


def _without_credentials(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Without what the client sent for the handshake with us, which ends here."""
    return [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))  # the client encodes them so
        for name, value in headers
        if name != b"authorization" and not name.startswith(b"sec-websocket-")
    ]
