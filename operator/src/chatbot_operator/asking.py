"""Asks pods of their stores: the one thing that their status does not tell. Those that run and are not ready say why;
those that are ready, which stores they go on without.

A look besides the others: bounded in time and number, and what goes wrong with it is passed over. What a pod answers is
not trusted: it is read as a few words, and everything else in it is ignored.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

from chatbot_operator import names
from chatbot_operator.components.metadata import component_of
from chatbot_operator.reachability import private_port, runs_ready, runs_unready
from chatbot_operator.world import Answer, Manifest

TIMEOUT = aiohttp.ClientTimeout(total=3, sock_connect=1)
"""A service gives a dependency 2 s before it calls that a timeout, see chatbot_common.app."""
MOST = 2
"""Pods of a component that are asked."""
MAX_BYTES = 8192
WELL = "ok"

Word = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class _Checks(BaseModel):
    """`ok`, or the kind of the error; those of stores alone."""

    model_config = ConfigDict(frozen=True)

    database: Word = WELL
    redis: Word = WELL
    vectors: Word = WELL


class _Readyz(BaseModel):
    status: Literal["ready", "not-ready"]
    checks: _Checks = _Checks()
    reported: _Checks = _Checks()


@dataclass(frozen=True)
class Target:
    """A pod to ask."""

    pod: str
    url: str


async def ask(targets: Collection[Target]) -> dict[str, Answer]:
    """What pods say, by their names. Sends nothing where there is nobody to ask."""
    if not targets:
        return {}
    # Not unpacked: what is packed is not from a service of ours.
    async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
        found = await asyncio.gather(*(_ask(session, target.url) for target in targets))
    return {target.pod: answer for target, answer in zip(targets, found, strict=True) if answer is not None}


def unready(pods: Iterable[Manifest]) -> list[Target]:
    """Some that run and are not ready, of each component."""
    return _newest(filter(runs_unready, pods), get_args(names.Component), MOST)


def serving(pods: Iterable[Manifest], parts: Collection[str]) -> list[Target]:
    """One that is ready, of each component named."""
    return _newest(filter(runs_ready, pods), parts, 1)


def _newest(pods: Iterable[Manifest], parts: Collection[str], most: int) -> list[Target]:
    found: dict[str, list[Target]] = defaultdict(list)
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True):
        if component_of(pod) in parts:
            found[component_of(pod)].append(Target(pod["metadata"]["name"], _address(pod)))
    return [target for several in found.values() for target in several[:most]]


async def _ask(session: aiohttp.ClientSession, url: str) -> Answer | None:
    try:
        async with session.get(url, allow_redirects=False) as response:
            said = _Readyz.model_validate_json(await _body(response))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        # It has not begun to listen, cannot be reached from here, or says something else.
        return None
    return Answer(said.status == "ready", _failing(said.checks), _failing(said.reported))


def _failing(checks: _Checks) -> dict[str, str]:
    return {check: state for check, state in checks.model_dump().items() if state != WELL}


def _address(pod: Manifest) -> str:
    host = pod["status"]["podIP"]
    return f"http://{f'[{host}]' if ':' in host else host}:{private_port(pod)}/readyz?verbose"


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(MAX_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError("too long")
    return body
