"""Signing in on one's own machine: the operator's key asks auth for a one-time link, as an operator does elsewhere."""

import time
from collections.abc import Callable
from typing import Any

from chatbot_resource.configuration import OPERATOR

from chatbot_cli import keys
from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.loopback import request
from chatbot_cli.state import State

TRY_SECONDS = 10
"""Auth makes the administrator just after its start; until then it has nobody to sign in."""


def link_token(home: Home, state: State) -> str:
    """A token that signs its bearer in as administrator, once. Raises `CliError`."""
    port = state.ports["auth"][0]
    headers = {"X-Service-Authorization": f"Bearer {_operator_token(home)}"}
    body = _tried(lambda: request(port, "POST", "/internal/sign-in-links", body={}, headers=headers))
    return str(body["token"])


def access_token(home: Home, state: State) -> str:
    """An administrator's access token. Its session ends at once, so that nothing outlives the token's 15 minutes.

    Raises:
        CliError: auth does not answer, or refuses.
    """
    port = state.ports["auth"][0]
    token = link_token(home, state)
    answer = request(port, "POST", "/api/v1/auth/link", body={"token": token}, seconds=10)
    if answer is None or not answer.ok:
        raise _refused(answer)
    request(port, "POST", "/api/v1/auth/logout", body={"refresh_token": answer.body["refresh_token"]})
    return str(answer.body["access_token"])


def _tried(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TRY_SECONDS
    while True:
        answer = ask()
        if answer is not None and answer.ok:
            return answer.body
        if time.monotonic() > deadline or (answer is not None and answer.status in (400, 401, 403, 422)):
            raise _refused(answer)
        time.sleep(0.1)


def _refused(answer: Any) -> CliError:
    if answer is None:
        return CliError("The auth service does not answer.", f"Look at: {call('status')}, {call('logs auth')}")
    title = answer.body.get("title") if isinstance(answer.body, dict) else None
    return CliError(f"The auth service refused to sign in: {title or answer.status}.", f"Look at: {call('logs auth')}")


def _operator_token(home: Home) -> str:
    """Proves for one minute that we manage this bot. The shape is that of `chatbot_common.identity`."""
    import jwt

    text = keys.private_key_file(home, OPERATOR).read_text(encoding="utf-8").strip()
    now = int(time.time())
    claims = {"iss": OPERATOR, "aud": "auth", "iat": now, "exp": now + 60, "jti": f"{now:x}", "type": "service"}
    return jwt.encode(claims, keys.private_key(text), algorithm="EdDSA")
