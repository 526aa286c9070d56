"""Asks pods that run and are not ready why they are not: the one thing that their status does not tell.

A look besides the others: bounded in time and number, and what goes wrong with it is passed over. What a pod answers is
not trusted: it is read as a few words, and everything else in it is ignored.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

from chatbot_operator import names
from chatbot_operator.components.metadata import component_of
from chatbot_operator.reachability import private_port, runs_unready
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


async def ask(pods: Iterable[Manifest]) -> dict[str, Answer]:
    """What pods that are not ready say, by their names. Sends nothing where every pod is ready."""
    asked = _chosen(pods)
    if not asked:
        return {}
    # Not unpacked: what is packed is not from a service of ours.
    async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
        found = await asyncio.gather(*(_ask(session, pod) for pod in asked))
    return {pod["metadata"]["name"]: answer for pod, answer in zip(asked, found, strict=True) if answer is not None}


def _chosen(pods: Iterable[Manifest]) -> list[Manifest]:
    """The newest of each component."""
    found: dict[str, list[Manifest]] = defaultdict(list)
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True):
        if component_of(pod) in get_args(names.Component) and runs_unready(pod):
            found[component_of(pod)].append(pod)
    return [pod for several in found.values() for pod in several[:MOST]]


async def _ask(session: aiohttp.ClientSession, pod: Manifest) -> Answer | None:
    try:
        async with session.get(_address(pod), allow_redirects=False) as response:
            said = _Readyz.model_validate_json(await _body(response))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        # It has not begun to listen, cannot be reached from here, or says something else.
        return None
    failing = {check: state for check, state in said.checks.model_dump().items() if state != WELL}
    return Answer(ready=said.status == "ready", failing=failing)


def _address(pod: Manifest) -> str:
    host = pod["status"]["podIP"]
    return f"http://{f'[{host}]' if ':' in host else host}:{private_port(pod)}/readyz"


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(MAX_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError("too long")
    return body
