"""The command line: one run per size, one after the other, each on a fresh API server."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from operatorbench import report
from operatorbench.machine import Failed, machine
from operatorbench.phases import Figures, measure

EXAMPLES = """\
examples:
  make bench-operator                                        100, 500 and 1,000 resources: most of an hour
  make bench-operator ARGS="--sizes 20"                      a first look, in two minutes
  make bench-operator ARGS="--sizes 500 --json scale.json"   one size, and its figures in a file
  make bench-operator ARGS="--sizes 100 --pods"              with pods, which a cluster has and this leaves out else

It needs etcd, kube-apiserver and kube-controller-manager, from `make cluster-build`. Run nothing else meanwhile.
"""


def main() -> int:
    options = _parser().parse_args()
    # So that what was started is ended, also when this is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[Figures] = []
    try:
        for size in options.sizes:
            results.append(asyncio.run(_run(size, options.play)))
            # After each size, so that a later one that fails takes nothing along.
            if options.json:
                options.json.write_text(json.dumps(report.document(results), indent=2) + "\n", encoding="utf-8")
            print(report.table(results), flush=True)
        if needless := report.needless(results):
            print("", *needless, sep="\n", file=sys.stderr)
        return 1 if needless else 0
    except Failed as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nBroken off.", file=sys.stderr)
        return 130


async def _run(size: int, play: str) -> Figures:
    began = psutil.cpu_times()
    async with machine(play) as here:
        found = await measure(here, size, _progress(size), scaled=play == "autoscalers")
    return found | {"taken_by_others": report.taken_by_others(began)}


def _progress(size: int) -> Callable[[str], None]:
    """One line that is written over on a terminal, else a line now and then."""
    began, last = time.monotonic(), [-10.0]

    def say(what: str) -> None:
        now, live = time.monotonic(), sys.stderr.isatty()
        if now - last[0] >= (0.2 if live else 10):
            last[0] = now
            line = f"{size} resources, {now - began:.0f} s: {what}"
            print(f"\r{line:<78}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)

    return say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/operator",
        description="Measure the operator with many resources on a real API server; what would run is played.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sizes", type=_sizes, default=[100, 500, 1000], metavar="N,N", help="resources; default: 100,500,1000"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    plays = parser.add_mutually_exclusive_group()
    plays.add_argument(
        "--pods",
        dest="play",
        action="store_const",
        const="pods",
        help="with pods, made by the real controllers: much slower",
    )
    plays.add_argument(
        "--autoscalers",
        dest="play",
        action="store_const",
        const="autoscalers",
        help="with four autoscalers for each resource, that note every 15 seconds what they measure",
    )
    parser.set_defaults(play="workloads")
    return parser


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("a size is at least 1")
    return sizes
