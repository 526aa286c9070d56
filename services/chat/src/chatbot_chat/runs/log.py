"""The run's log in Redis, so that any replica can serve any run.

One stream per run. An entry holds a batch of events and is named `attempt-lastseq`; Redis itself refuses an id that is
not greater than the last, and the script refuses an attempt older than the one it has seen, or closed because its pod
seemed dead: so a pod that was frozen and thaws cannot append. Losing Redis loses no answer: Postgres has it.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from chatbot_common.redis import Script
from pydantic import TypeAdapter
from redis import RedisError
from redis.asyncio import Redis

from chatbot_chat.budgets.prices import Spent
from chatbot_chat.reach import Reach
from chatbot_chat.runs.events import Event, event_of

TTL_SECONDS = 15 * 60
BLOCK_MILLISECONDS = 2000

_SPENT = TypeAdapter(Spent)

Appended = Literal["ok", "cancel", "superseded", "gap"]

# KEYS: log, state. ARGV: attempt, seq of the first event, of the last, events as JSON or '', seconds to keep, what was
# spent as JSON or ''.
# 'gap' asks the writer to begin again from its first event: the log is not where the writer believes it to be, because
# Redis lost it, or an answer was lost on its way.
_APPEND = """
local attempt, current = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[2], 'attempt') or '0')
if attempt < current or attempt <= tonumber(redis.call('HGET', KEYS[2], 'closed') or '0') then return 'superseded' end
if attempt > current then
  local wish = redis.call('HGET', KEYS[2], 'cancel')
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'attempt', attempt)
  if wish then redis.call('HSET', KEYS[2], 'cancel', wish) end
end
if ARGV[4] ~= '' then
  local first = tonumber(ARGV[2])
  if first == 1 then
    redis.call('DEL', KEYS[1])
  elseif tonumber(redis.call('HGET', KEYS[2], 'seq') or '0') ~= first - 1 then
    return 'gap'
  end
  redis.call('XADD', KEYS[1], attempt .. '-' .. ARGV[3], 'events', ARGV[4])
  redis.call('HSET', KEYS[2], 'seq', ARGV[3])
end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], 'spent', ARGV[6]) end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if redis.call('HGET', KEYS[2], 'cancel') == ARGV[1] then return 'cancel' end
return 'ok'
"""

# KEYS: state. ARGV: attempt, seconds to keep. From here on the attempt appends no more.
_CLOSE = """
if tonumber(ARGV[1]) < tonumber(redis.call('HGET', KEYS[1], 'attempt') or '0') then return end
redis.call('HSET', KEYS[1], 'closed', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: state. ARGV: attempt, seconds to keep.
_CANCEL = """
redis.call('HSET', KEYS[1], 'cancel', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class RunLog:
    """Appends and reads batches of events. Every method raises `redis.RedisError` when Redis does not answer.

    Args:
        redis: for commands; bounded by its own socket timeout.
        blocking: for waiting reads; its socket timeout must exceed `BLOCK_MILLISECONDS`.
        reach: whether Redis answers, as far as others have found out.
    """

    def __init__(self, redis: Redis, blocking: Redis, reach: Reach | None = None) -> None:
        self._redis = redis
        self._blocking = blocking
        self._reach = reach or Reach(redis.ping)
        self._append = Script(redis, _APPEND)
        self._close = Script(redis, _CLOSE)
        self._cancel = Script(redis, _CANCEL)

    async def append(self, run_id: UUID, attempt: int, events: Sequence[Event], spent: Spent | None = None) -> Appended:
        """Append a batch (possibly empty: a sign of life) and learn whether somebody wants the run stopped.

        Args:
            spent: in place of what was told before, for who closes the run should this process die.
        """
        first, last = (events[0].seq, events[-1].seq) if events else (0, 0)
        batch = json.dumps([event.as_dict() for event in events]) if events else ""
        told: list[str | bytes | int] = [
            attempt,
            first,
            last,
            batch,
            TTL_SECONDS,
            _SPENT.dump_json(spent) if spent else "",
        ]
        keys = [_log(run_id), _state(run_id)]
        result: Appended = (await self._reach.ask(lambda: self._append(keys=keys, args=told))).decode()
        return result

    async def opens(self, run_id: UUID, attempt: int) -> Appended | None:
        """A first sign of life. None: the attempt's events will not be in the log, because Redis is away."""
        try:
            return await self.append(run_id, attempt, ())
        except RedisError:
            return None

    async def said(self, run_id: UUID, attempt: int) -> list[Event]:
        """The attempt's events so far."""
        entries: Any = await self._redis.xrange(_log(run_id), min=f"{attempt}-0", max=str(attempt))
        return [event for _, fields in entries for event in _events(fields[b"events"])]

    async def spent(self, run_id: UUID, attempt: int) -> Spent | None:
        """By the attempt, as far as its process has told."""
        current, told = await self._redis.hmget(_state(run_id), ["attempt", "spent"])
        return _SPENT.validate_json(told) if told and int(current or 0) == attempt else None

    async def close(self, run_id: UUID, attempt: int) -> None:
        """Let the attempt append no more."""
        await self._close(keys=[_state(run_id)], args=[attempt, TTL_SECONDS])

    async def cancel(self, run_id: UUID, attempt: int) -> None:
        """Ask whoever runs this attempt to stop; it reads the wish with its next append."""
        told = [attempt, TTL_SECONDS]
        await self._reach.ask(lambda: self._cancel(keys=[_state(run_id)], args=told))

    async def read(self, run_id: UUID, attempt: int, after: int, *, wait: bool) -> list[Event]:
        """Events of the attempt with `seq` above `after`; with `wait`, after up to two seconds."""
        # Without RESP3 the answer is a list of [stream, [(id, fields), …]], whatever the client's type says.
        block = BLOCK_MILLISECONDS if wait else None
        self._reach.expect()
        # Not by `ask`: where all its connections wait for events, Redis is not away.
        reply: Any = await self._blocking.xread({_log(run_id): f"{attempt}-{after}"}, block=block)
        entries: list[Any] = reply[0][1] if reply else []
        events = [event for _, fields in entries for event in _events(fields[b"events"])]
        return [event for event in events if event.attempt == attempt and event.seq > after]


def _events(batch: bytes) -> list[Event]:
    return [event_of(body) for body in json.loads(batch)]


def _log(run_id: UUID) -> str:
    return f"chat:run:{{{run_id}}}:log"


def _state(run_id: UUID) -> str:
    return f"chat:run:{{{run_id}}}:state"
