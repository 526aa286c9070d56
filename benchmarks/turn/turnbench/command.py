"""The command line: starts everybody, measures, prints a table."""

import argparse
import contextlib
import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import uvloop

from turnbench import contenders, report, scenarios
from turnbench.contenders import LITELLM, PORTKEY
from turnbench.load import Failed, Target
from turnbench.scenarios import Figures, Length, Say

EXAMPLES = """\
examples:
  make bench-turn                                      everything, about twenty minutes
  make bench-turn ARGS="--short"                       a first look, in three minutes
  make bench-turn ARGS="--only whole --without litellm,portkey"
  make bench-turn ARGS="--json turn.json"              what is published

The peers are installed once, outside the checkout. Run nothing else meanwhile.
"""
PARTS = ("whole", "streamed", "cpu", "added", "turns", "streams", "memory")
LONG, SHORT = Length(seconds=10, rounds=5, turns=10_000), Length(seconds=2, rounds=2, turns=500)


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A thousand streams are three thousand sockets, in as many processes as there are hops.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: Figures = {}
    began = psutil.cpu_times()
    try:
        uvloop.run(_measure(figures, options))
    except Failed as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nBroken off.", file=sys.stderr)
        return 130
    finally:
        # What was measured before somebody failed is true all the same.
        if figures:
            figures["taken_by_others"] = report.taken_by_others(began)
            print(report.table(figures))
            if options.json:
                options.json.write_text(json.dumps(report.document(figures), indent=2) + "\n", encoding="utf-8")
    return 0


async def _measure(figures: Figures, options: argparse.Namespace) -> None:
    """Each part's figures are in `figures` as soon as it has ended."""
    length, say = SHORT if options.short else LONG, _progress()
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(contenders.model())
        peers: list[Target] = [await stack.enter_async_context(contenders.bound(model))]
        for name, start in ((LITELLM, contenders.litellm), (PORTKEY, contenders.portkey)):
            if name not in options.without and {"whole", "streamed"} & set(options.only):
                say(f"starting {name}")
                peers.append(await stack.enter_async_context(start(model)))
        say("starting the platform")
        ours = await stack.enter_async_context(contenders.ours(model))
        if "whole" in options.only:
            figures["whole"] = await scenarios.rates(peers, ours, scenarios.WHOLE, length, say)
        if "streamed" in options.only:
            figures["streamed"] = await scenarios.rates(peers, ours, scenarios.STREAMED, length, say)
        if "cpu" in options.only:
            hops = await stack.enter_async_context(contenders.hops(model))
            figures["cpu"] = await scenarios.cpu([peers[0], hops], ours, length, say)
        if "added" in options.only:
            rate = figures.get("whole") or await scenarios.rates([], ours, scenarios.WHOLE, length, say)
            figures["added"] = await scenarios.added(
                model, peers[:1], ours, rate["median"][contenders.OURS], length, say
            )
        if "turns" in options.only:
            figures["turns"] = await scenarios.turns(ours, length, say)
        if "streams" in options.only:
            figures["streams"] = await scenarios.many_streams(ours, length, say)
        if "memory" in options.only:
            figures["memory"] = await scenarios.memory(ours, length, say)


def _progress() -> Say:
    """One line that is written over on a terminal, else a line for each step."""
    began, live = time.monotonic(), sys.stderr.isatty()

    def say(what: str) -> None:
        line = f"{time.monotonic() - began:.0f} s: {what}"
        print(f"\r{line:<78}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)

    return say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/turn",
        description="Measure a turn beside LiteLLM, Portkey's gateway and a bare relay, all before one scripted model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=_names(PARTS), default=PARTS, metavar="PART,PART", help=", ".join(PARTS))
    parser.add_argument("--without", type=_names((LITELLM, PORTKEY)), default=(), metavar="PEER,PEER")
    parser.add_argument("--short", action="store_true", help="less of everything: a first look, nothing to publish")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        named = tuple(text.split(","))
        if unknown := set(named) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}")
        return named

    return names
