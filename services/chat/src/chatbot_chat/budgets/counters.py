"""Budgets in Redis: what is held for answers on their way, and what was spent in each window.

A hold is made before a provider is asked, and raised when more is asked for the same answer; it ends with a process
that does not renew it. One script ends it and counts what was spent, so that nobody sees neither or both.

The ledger in Postgres is the truth: a window that Redis does not have is loaded from it before it refuses or admits
anybody. So is one after a hold has ended by itself: its process may have died after it had entered its answer, and
before it was counted. An answer may be entered there and counted here at about the same time; so that it counts once,
what is counted before a window was loaded is kept by name for some seconds, and the ledger tells the names it has
entered lately.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chatbot_common.redis import Script
from redis.asyncio import Redis

from chatbot_chat.budgets.windows import Excess, Kind, Window

HOLD_MILLISECONDS = 10_000
"""As long as a run's lease; renewed every 3 s."""
FRESH_MILLISECONDS = 10_000
"""What was counted longer ago is in the ledger by now. Less than what the ledger calls recent."""
KINDS: tuple[Kind, Kind] = ("tokens", "cost")

# Of each scope two keys: held, a sorted set of names by their ends; holds, a hash name → tokens:cost with their sums.
# Of each window a hash: tokens, cost, whether loaded; before that name → tokens:cost:when, and after it the names that
# the ledger had entered and nobody had counted.
_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function add(key, tokens, cost)
  redis.call('HINCRBY', key, 'tokens', whole(tokens))
  redis.call('HINCRBY', key, 'cost', whole(cost))
end
local function release(held, holds, name)
  local tokens, cost = string.match(redis.call('HGET', holds, name) or '', '(%d+):(%d+)')
  if not tokens then return false end
  local alive = tonumber(redis.call('ZSCORE', held, name) or '0') > now
  redis.call('ZREM', held, name)
  redis.call('HDEL', holds, name)
  add(holds, 0 - tokens, 0 - cost)
  if redis.call('EXISTS', held) == 0 then redis.call('DEL', holds) end
  return alive
end
local function hold(held, holds, name, tokens, cost, milliseconds)
  if redis.call('ZADD', held, now + milliseconds, name) == 1 then
    redis.call('HSET', holds, name, tokens .. ':' .. cost)
    add(holds, tokens, cost)
  end
  redis.call('PEXPIRE', held, 86400000)
  redis.call('PEXPIRE', holds, 86400000)
end
"""

# KEYS held and holds of each scope, then the windows. ARGV name, tokens, cost, ms to hold, scopes; then of each window
# its scope, limit of tokens and of cost, -1 for none. Nothing is held unless every window allows it.
_RESERVE = (
    _COMMON
    + """
local name, needs, scopes = ARGV[1], {tonumber(ARGV[2]), tonumber(ARGV[3])}, tonumber(ARGV[5])
local others, doubted = {}, {}
for scope = 1, scopes do
  local held, holds = KEYS[2 * scope - 1], KEYS[2 * scope]
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now)) do
    release(held, holds, dead)
    doubted[scope] = true
  end
  local sums = redis.call('HMGET', holds, 'tokens', 'cost', name)
  local tokens, cost = string.match(sums[3] or '', '(%d+):(%d+)')
  others[scope] = {(sums[1] or 0) - (tokens or 0), (sums[2] or 0) - (cost or 0)}
end
local missing, refused = {'missing'}, {'refused'}
for window = 1, #KEYS - 2 * scopes do
  local scope = tonumber(ARGV[3 * window + 3])
  local used = redis.call('HMGET', KEYS[2 * scopes + window], 'tokens', 'cost', 'loaded')
  if doubted[scope] and used[3] then
    redis.call('DEL', KEYS[2 * scopes + window])
    used = {}
  end
  if not used[3] then missing[#missing + 1] = window end
  for kind = 1, 2 do
    local limit = tonumber(ARGV[3 * window + 3 + kind])
    local left = limit - (used[kind] or 0) - others[scope][kind]
    if limit >= 0 and needs[kind] > left then
      local passing = needs[kind] <= limit - (used[kind] or 0) and 1 or 0
      for _, value in ipairs({window, kind, math.max(left, 0), passing}) do refused[#refused + 1] = value end
    end
  end
end
if #missing > 1 then return missing end
if #refused > 1 then return refused end
for scope = 1, scopes do
  release(KEYS[2 * scope - 1], KEYS[2 * scope], name)
  hold(KEYS[2 * scope - 1], KEYS[2 * scope], name, ARGV[2], ARGV[3], tonumber(ARGV[4]))
end
return {'ok'}
"""
)

# KEYS as above. ARGV name, tokens, cost, scopes. Without a living hold nobody knows whether a window was loaded since
# the answer was entered: then those that are loaded stay as they are, and 0 is returned.
_SETTLE = (
    _COMMON
    + """
local scopes, alive = tonumber(ARGV[4]), true
for scope = 1, scopes do alive = release(KEYS[2 * scope - 1], KEYS[2 * scope], ARGV[1]) and alive end
for window = 2 * scopes + 1, #KEYS do
  local key = KEYS[window]
  if redis.call('HEXISTS', key, 'loaded') == 0 then
    redis.call('HSET', key, ARGV[1], ARGV[2] .. ':' .. ARGV[3] .. ':' .. whole(now))
    redis.call('PEXPIRE', key, 60000)
  elseif redis.call('HDEL', key, ARGV[1]) == 0 and alive then
    add(key, ARGV[2], ARGV[3])
  end
end
return alive and 1 or 0
"""
)

# KEYS one window. ARGV tokens and cost that the ledger has, ms to keep it, ms for which what was counted is fresh, then
# the names that the ledger has entered lately.
_LOAD = (
    _COMMON
    + """
if redis.call('HEXISTS', KEYS[1], 'loaded') == 1 then return end
local tokens, cost, entered = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 5, #ARGV do entered[ARGV[i]] = true end
local counted = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
for i = 1, #counted, 2 do
  local own, price, at = string.match(counted[i + 1], '(%d+):(%d+):(%d+)')
  if at and not entered[counted[i]] and now - at < tonumber(ARGV[4]) then
    tokens, cost = tokens + own, cost + price
  end
  entered[counted[i]] = nil
end
redis.call('HSET', KEYS[1], 'loaded', 1, 'tokens', whole(tokens), 'cost', whole(cost))
for name in pairs(entered) do redis.call('HSET', KEYS[1], name, '') end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
)

# KEYS held and holds, once for each hold. ARGV ms to hold, then name, tokens and cost of each. One that Redis has lost
# is made again.
_RENEW = (
    _COMMON
    + """
for i = 1, #KEYS / 2 do
  hold(KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1], tonumber(ARGV[1]))
end
"""
)

# KEYS one hash name → when and what. ARGV ms after which who has told it is dead, how many have ended, their names,
# then name and what of each. Returns what the dead have told, to the first who asks.
_TELL = (
    _COMMON
    + """
local first = 3 + ARGV[2]
for i = 3, first - 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = first, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], whole(now) .. ' ' .. ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], 86400000)
local dead, told = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #told, 2 do
  local at, what = string.match(told[i + 1], '^(%d+) (.*)$')
  if now - at > tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], told[i])
    dead[#dead + 1] = what
  end
end
return dead
"""
)
_UNDER_WAY = "chat:budgets:under-way"


@dataclass(frozen=True, slots=True)
class Hold:
    """What an answer may need, or has needed. `name` is `run_id:attempt`."""

    name: str
    tokens: int
    cost: int


class Counters:
    """Every method raises `redis.RedisError` when Redis does not answer."""

    def __init__(self, redis: Redis, hold_milliseconds: int = HOLD_MILLISECONDS) -> None:
        self._redis = redis
        self._milliseconds = hold_milliseconds
        self._reserve = Script(redis, _RESERVE)
        self._settle = Script(redis, _SETTLE)
        self._load = Script(redis, _LOAD)
        self._renew = Script(redis, _RENEW)
        self._tell = Script(redis, _TELL)

    async def reserve(self, hold: Hold, windows: Sequence[Window]) -> tuple[list[Window], list[Excess]]:
        """Windows that have to be loaded first, or limits that refuse; where there is neither, it is held.

        In place of what is held under the same name.
        """
        scopes = _scopes(windows)
        limits = [
            value
            for window in windows
            for value in (scopes.index(window.scope) + 1, _limit(window.tokens), _limit(window.cost))
        ]
        told: list[str | int] = [hold.name, hold.tokens, hold.cost, self._milliseconds, len(scopes), *limits]
        verdict, *rest = await self._reserve(keys=_keys(scopes, windows), args=told)
        if verdict == b"missing":
            return [windows[index - 1] for index in rest], []
        found = zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True)
        needs = {"tokens": hold.tokens, "cost": hold.cost}
        return [], [
            Excess(windows[window - 1], KINDS[kind - 1], left, needs[KINDS[kind - 1]], bool(passing))
            for window, kind, left, passing in found
        ]

    async def settle(self, spent: Hold, windows: Sequence[Window]) -> bool:
        """Let go of what was held under this name, and count what was spent. False where only the ledger can tell."""
        scopes = _scopes(windows)
        counted = windows if spent.tokens or spent.cost else ()
        told: list[str | int] = [spent.name, spent.tokens, spent.cost, len(scopes)]
        return bool(await self._settle(keys=_keys(scopes, counted), args=told))

    async def load(self, window: Window, tokens: int, cost: int, recent: Sequence[str]) -> None:
        """Begin a window with what the ledger has of it, unless somebody has done so."""
        kept = max((window.until - datetime.now(UTC)).total_seconds(), 0) + 3600
        told: list[str | int] = [tokens, cost, int(kept * 1000), FRESH_MILLISECONDS, *recent]
        await self._load(keys=[_used(window)], args=told)

    async def renew(self, holds: Sequence[tuple[Hold, Sequence[Window]]]) -> None:
        each = [(hold, scope) for hold, windows in holds for scope in _scopes(windows)]
        told = [value for hold, _ in each for value in (hold.name, hold.tokens, hold.cost)]
        await self._renew(keys=_keys([scope for _, scope in each], ()), args=[self._milliseconds, *told])

    async def ping(self) -> None:
        await self._redis.ping()

    async def tell(self, under_way: Mapping[str, str], ended: Collection[str]) -> list[str]:
        """What answers have used so far, by name, in place of what was told of them; and which have ended.

        Returns:
            What was told by a process that has not done so again for as long as a hold lasts; nobody is told it twice.
        """
        each = [value for name, text in under_way.items() for value in (name, text)]
        told: list[str | int] = [self._milliseconds, len(ended), *ended, *each]
        return [text.decode() for text in await self._tell(keys=[_UNDER_WAY], args=told)]

    async def forget(self, windows: Sequence[Window]) -> None:
        """Have them loaded anew."""
        await self._redis.delete(*map(_used, windows))


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _scopes(windows: Sequence[Window]) -> list[str]:
    return list(dict.fromkeys(window.scope for window in windows))


def _keys(scopes: Sequence[str], windows: Sequence[Window]) -> list[str]:
    held = [f"chat:budgets:{scope}:{part}" for scope in scopes for part in ("held", "holds")]
    return [*held, *map(_used, windows)]


def _used(window: Window) -> str:
    return f"chat:budgets:{window.name}"
