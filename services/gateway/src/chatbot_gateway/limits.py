"""How often one user, or one address before sign-in, may ask: three windows, one Redis script call per request.

A sliding window counted in slots: 60 a minute means that no stretch of 60 seconds ever sees more. State is in Redis, so
the limit is the platform's and not one gateway's. Without Redis requests pass: a lost store must not become an outage.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import structlog
from chatbot_common.errors import TooManyRequests
from chatbot_common.redis import Script, open_redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chatbot_gateway.settings import Limits

LIMITED = Counter("gateway_requests_limited_total", "Requests refused because a limit was hit", ["window"])
UNCHECKED = Counter("gateway_limits_unchecked_total", "Requests let through because Redis did not answer")

REDIS_SECONDS = 0.5
PAUSE_SECONDS = 1.0  # after a failure Redis is left alone for so long: not every request should wait for a time-out

SLOTS = 12
"""Parts a window is counted in. A request leaves the count when its whole part has left the window, so a limit is never
exceeded in any stretch of the window's length, and waits at most 1/12 of it longer than it had to."""

# KEYS[1] a hash: field `window:slot modulo (slots + 1)` → `slot:requests`. ARGV slots, then limit and ms per window.
# Nothing is spent unless every window allows it.
# Returns {refusing window or 0, ms to wait, then per window: requests left, ms until all of them are back}.
SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slots, windows = tonumber(ARGV[1]), (#ARGV - 1) / 2
local fields = {}
local function slot_of(i) return math.floor(now / (ARGV[2 * i + 1] / slots)) end
for i = 1, windows do
  for back = 0, slots do fields[#fields + 1] = i .. ':' .. (slot_of(i) - back) % (slots + 1) end
end
local stored = redis.call('HMGET', KEYS[1], unpack(fields))
local refused, wait, longest, reply, spend = 0, 0, 0, {}, {}
for i = 1, windows do
  local limit, window, current = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]), slot_of(i)
  local used, counts = 0, {}
  for back = 0, slots do
    local slot, count = string.match(stored[(i - 1) * (slots + 1) + back + 1] or '', '(%d+):(%d+)')
    counts[back] = tonumber(slot) == current - back and tonumber(count) or 0
    used = used + counts[back]
  end
  local function gone(back) return math.ceil((current - back + slots + 1) * window / slots - now) end
  local excess, freed = used - limit + 1, 0
  for back = slots, 0, -1 do
    if freed < excess then
      freed = freed + counts[back]
      if freed >= excess and gone(back) > wait then refused, wait = i, gone(back) end
    end
  end
  spend[#spend + 1] = i .. ':' .. current % (slots + 1)
  spend[#spend + 1] = string.format('%d:%d', current, counts[0] + 1)
  reply[2 * i - 1], reply[2 * i] = math.max(limit - used, 0), gone(0)
  longest = math.max(longest, window)
end
if refused == 0 then
  redis.call('HSET', KEYS[1], unpack(spend))
  redis.call('PEXPIRE', KEYS[1], math.ceil(longest * (slots + 1) / slots))
  for i = 1, windows do reply[2 * i - 1] = reply[2 * i - 1] - 1 end
end
return {refused, wait, unpack(reply)}
"""


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` requests in any stretch of `seconds`."""

    name: str
    limit: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one window."""

    window: Window
    remaining: int
    reset: int
    """Seconds until all of it is back, if nothing more is asked."""


def windows(limits: Limits) -> tuple[Window, ...]:
    return (
        Window("minute", limits.per_minute, 60),
        Window("hour", limits.per_hour, 3600),
        Window("day", limits.per_day, 86_400),
    )


def subject_of_address(host: str) -> str:
    """Who an address counts as: an IPv6 client owns a whole /64 and could change its address for every request."""
    try:
        address = ip_address(host)
    except ValueError:
        return "ip:unknown"
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return f"ip:{mapped or ip_network((address.packed, 64), strict=False).network_address}"
    return f"ip:{address}"


class Limiter:
    """Spends one request of a subject's allowance."""

    def __init__(self, redis_url: str, windows: Sequence[Window]) -> None:
        self._redis = open_redis(
            redis_url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self._windows = tuple(windows)
        policy = ", ".join(f'"{w.name}";q={w.limit};w={w.seconds}' for w in self._windows)
        self._policy = {"RateLimit-Policy": policy}
        self._arguments = [SLOTS] + [
            value for window in self._windows for value in (window.limit, window.seconds * 1000)
        ]
        self._script = Script(self._redis, SCRIPT)
        self._paused_until = 0.0
        self._log = structlog.get_logger(__name__)

    async def spend(self, subject: str, *, openai: bool = False) -> dict[str, str]:
        """Response headers that tell the client what is left.

        Args:
            subject: `user:ID` or `ip:ADDRESS`.
            openai: add the names OpenAI's clients know.

        Raises:
            TooManyRequests: a window is used up; nothing was spent.
        """
        answer = await self._ask(f"gateway:limits:{subject}")
        if answer is None:
            UNCHECKED.inc()
            return self._policy
        refused, wait_ms, *rest = answer
        left = [
            Left(window, max(0, remaining), math.ceil(reset / 1000))
            for window, remaining, reset in zip(self._windows, rest[::2], rest[1::2], strict=True)
        ]
        headers = self._policy | _standard(left) | (_openai(left) if openai else {})
        if refused:
            raise _refusal(self._windows[refused - 1], math.ceil(wait_ms / 1000), headers)
        return headers

    async def ping(self) -> None:
        """Raises when Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, key: str) -> list[int] | None:
        if time.monotonic() < self._paused_until:
            return None
        try:
            answer: Any = await self._script(keys=[key], args=self._arguments)
        except (RedisError, OSError) as error:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            self._log.warning("limits are off, Redis does not answer", error=type(error).__name__)
            return None
        return [int(value) for value in answer]


def _standard(left: list[Left]) -> dict[str, str]:
    """draft-ietf-httpapi-ratelimit-headers."""
    return {"RateLimit": ", ".join(f'"{item.window.name}";r={item.remaining};t={item.reset}' for item in left)}


def _openai(left: list[Left]) -> dict[str, str]:
    tightest = min(left, key=lambda item: item.remaining)
    return {
        "x-ratelimit-limit-requests": str(tightest.window.limit),
        "x-ratelimit-remaining-requests": str(tightest.remaining),
        "x-ratelimit-reset-requests": f"{tightest.reset}s",
    }


def _refusal(window: Window, seconds: int, headers: dict[str, str]) -> TooManyRequests:
    LIMITED.labels(window.name).inc()
    return TooManyRequests(
        f"The limit of {window.limit} requests per {window.name} is used up; try again in {seconds} s.",
        headers=headers | {"Retry-After": str(seconds)},
    )
