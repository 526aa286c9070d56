"""What is measured. Contenders take turns within each round, so that what the machine does meanwhile is everybody's."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from turnbench.contenders import BOUND, LITELLM, OURS, Ours
from turnbench.load import Clients, Failed, Question, Target
from turnbench.upstream import TEXT, WORDS

Say = Callable[[str], None]
Figures = dict[str, Any]

CONNECTIONS = 16
STREAMS = 1000
ASKED = [{"role": "user", "content": "Say the numbers."}]


def _json(**body: Any) -> bytes:
    return json.dumps(body).encode()


def _words(body: bytes) -> list[int]:
    """What a stream of OpenAI's chunks says, a number for each chunk."""
    return [int(word) for word in re.findall(rb'"content": ?"(\d+) "', body)]


def _streamed(body: bytes) -> bool:
    return len(_words(body)) == WORDS and b"[DONE]" in body


def _in_order(body: bytes) -> bool:
    return _words(body) == list(range(WORDS)) and b"[DONE]" in body


def _run_in_order(body: bytes) -> bool:
    """A run's events are numbered without gaps, and its words are all there."""
    numbers = [int(seq) for seq in re.findall(rb"^id: \d+-(\d+)$", body, re.MULTILINE)]
    said = b"".join(re.findall(rb'"text": ?"([^"]*)"', body)).decode()
    return numbers == list(range(1, len(numbers) + 1)) and said == TEXT and b"event: run.finished" in body


COMPLETIONS = "/v1/chat/completions"
WHOLE = Question(COMPLETIONS, _json(model="bench", messages=ASKED), lambda body: b'"usage"' in body)
STREAMED = Question(COMPLETIONS, _json(model="bench", messages=ASKED, stream=True), _streamed, "text/event-stream")
SLOW = Question(COMPLETIONS, _json(model="slow", messages=ASKED, stream=True), _in_order, "text/event-stream")
TURN = Question("/api/v1/chat/send", _json(content="Say the numbers."), lambda body: TEXT.strip().encode() in body)
SLOW_TURN = Question(
    "/api/v1/chat/send", _json(content="Say the numbers.", model="slow"), _run_in_order, "text/event-stream"
)


@dataclass(frozen=True)
class Length:
    """How long it takes: seconds of one measurement, rounds of all, turns that memory is watched over."""

    seconds: float
    rounds: int
    turns: int
    streams: int = STREAMS


async def rates(targets: Sequence[Target], ours: Ours, question: Question, length: Length, say: Say) -> Figures:
    """Answers a second at 16 connections, by name: the median of the rounds, and each of them.

    A peer that cannot do it is in `failed`, with its answer; we and the bound must be able to. Raises `Failed`.
    """
    failed: dict[str, str] = {}
    found: dict[str, list[float]] = {name: [] for name in (*(target.name for target in targets), OURS)}
    for number in range(length.rounds):
        for target in [*targets, await ours.target()]:
            if target.name in failed:
                continue
            say(f"round {number + 1} of {length.rounds}, {target.name}")
            try:
                found[target.name].append(await _rate(target, question, length.seconds))
            except Failed as failure:
                if target.name in (OURS, BOUND):
                    raise
                failed[target.name] = str(failure)
    middle = {name: median(seen) for name, seen in found.items() if name not in failed}
    return {"median": middle, "rounds": found, "failed": failed}


async def _rate(target: Target, question: Question, seconds: float) -> float:
    async with Clients(target, question, CONNECTIONS) as clients:
        await clients.flat_out(min(1.0, seconds))
        return len(await clients.flat_out(seconds)) / seconds


async def cpu(others: Sequence[Target], ours: Ours, length: Length, say: Say) -> Figures:
    """Milliseconds of CPU that one answer takes, of each process: unlike a rate it says much on a busy machine, too."""
    found: Figures = {}
    for name, question, answers in (("whole", WHOLE, 100), ("streamed", STREAMED, 100), ("turns", TURN, 20)):
        for target in [*(others if question is not TURN else ()), await ours.target()]:
            say(f"CPU, {name}, {target.name}")
            async with Clients(target, question, CONNECTIONS) as clients:
                await clients.times(CONNECTIONS * 4)
                before = _seconds(target.processes or ours.processes())
                await clients.times(number := int(answers * length.seconds * length.rounds))
                after = _seconds(target.processes or ours.processes())
            spent = {who: 1000 * (seconds - before.get(who, 0.0)) / number for who, seconds in after.items()}
            found.setdefault(name, {}).update(spent)
    return found


def _seconds(processes: Mapping[str, Sequence[int]]) -> dict[str, float]:
    def of(pid: int) -> float:
        try:
            spent = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0  # a store's, of a connection that has ended
        return float(spent.user + spent.system)

    return {name: sum(map(of, pids)) for name, pids in processes.items()}


async def added(model: Target, others: Sequence[Target], ours: Ours, rate: float, length: Length, say: Say) -> Figures:
    """Milliseconds that each adds to the model's own median latency, at half of what we carry at most."""
    found: dict[str, list[float]] = {}
    for number in range(length.rounds):
        for target in [model, *others, await ours.target()]:
            say(f"latency {number + 1} of {length.rounds}, {target.name}")
            async with Clients(target, WHOLE, CONNECTIONS) as clients:
                taken = await clients.at_rate(rate / 2, length.seconds)
            found.setdefault(target.name, []).append(median(taken) * 1000)
    middle = {name: median(seen) for name, seen in found.items()}
    return {"rate": rate / 2, "added": {name: middle[name] - middle[model.name] for name in middle}, "p50": middle}


async def turns(ours: Ours, length: Length, say: Say) -> Figures:
    """Complete turns a second: asked, answered and stored."""
    found = []
    for number in range(length.rounds):
        say(f"turns {number + 1} of {length.rounds}")
        found.append(await _rate(await ours.target(), TURN, length.seconds))
    return {"median": median(found), "rounds": found}


async def many_streams(ours: Ours, length: Length, say: Say) -> Figures:
    """Streams that are open at once, relayed and as runs; each answer is whole and in order, or this fails."""
    target, found = await ours.target(), {}
    for name, question in (("relayed", SLOW), ("runs", SLOW_TURN)):
        say(f"{length.streams} {name} streams at once")
        async with Clients(target, question, length.streams) as clients:
            found[name] = {"whole": len(await clients.once_each()), "open_at_once": clients.answers.most}
    return found


async def memory(ours: Ours, length: Length, say: Say) -> Figures:
    """MB of each service after the first tenth of the turns, and after all."""
    first = length.turns // 10
    say(f"memory: the first {first} turns")
    await _so_many(ours, first)
    before = ours.memory()
    say(f"memory: {length.turns} turns")
    await _so_many(ours, length.turns - first)
    return {"turns": length.turns, "before": before, "after": ours.memory()}


async def _so_many(ours: Ours, number: int) -> None:
    """In parts, each with a fresh token."""
    while number > 0:
        part = min(number, 1000)
        async with Clients(await ours.target(), TURN, CONNECTIONS) as clients:
            await clients.times(part)
        number -= part


def against(rates: Figures, name: str) -> float | None:
    """Ours as a ratio of somebody else's rate; None when they were left out."""
    middle = rates["median"]
    return middle[OURS] / middle[name] if name in middle else None


def turns_against_litellm(figures: Figures) -> float | None:
    other = figures["whole"]["median"].get(LITELLM)
    return figures["turns"]["median"] / other if other else None
