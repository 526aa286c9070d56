"""Who is measured: starts each with the same scripted model behind it, and ends it again."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from turnbench import peers
from turnbench.load import Failed, Target

START_SECONDS = 120.0
STORES = ("postgres", "valkey")
OURS, BOUND, LITELLM, PORTKEY, MODEL = "ours", "bound", "litellm", "portkey", "model"
HOPS, CHAT_HOP = "hops", "second hop"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextlib.asynccontextmanager
async def model() -> AsyncIterator[Target]:
    """The scripted model itself, also asked directly to know what is not our doing."""
    port = free_port()
    async with _process(MODEL, port, sys.executable, "-m", "turnbench.upstream", str(port)):
        yield Target(MODEL, port)


@contextlib.asynccontextmanager
async def bound(upstream: Target) -> AsyncIterator[Target]:
    async with relay(upstream, BOUND) as target:
        yield target


@contextlib.asynccontextmanager
async def hops(upstream: Target) -> AsyncIterator[Target]:
    """Two relays one before the other, as gateway and chat are."""
    async with relay(upstream, CHAT_HOP) as second, relay(second, HOPS) as first:
        yield replace(first, processes=first.processes | second.processes)


@contextlib.asynccontextmanager
async def relay(upstream: Target, name: str) -> AsyncIterator[Target]:
    port = free_port()
    command = (sys.executable, "-m", "uvicorn", "turnbench.bound:app", "--port", str(port), "--no-access-log")
    async with _process(name, port, *command, BOUND_UPSTREAM=f"http://127.0.0.1:{upstream.port}") as pid:
        yield Target(name, port, processes={name: [pid]})


@contextlib.asynccontextmanager
async def litellm(upstream: Target) -> AsyncIterator[Target]:
    """One worker with a master key, as its documentation starts it."""
    port, key, command = free_port(), f"sk-{secrets.token_hex(8)}", str(peers.litellm())
    served = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": served}],
        "general_settings": {"master_key": key},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        words = (command, "--config", file.name, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        async with _process(LITELLM, port, *words, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR"):
            yield Target(LITELLM, port, {"Authorization": f"Bearer {key}"})


@contextlib.asynccontextmanager
async def portkey(upstream: Target) -> AsyncIterator[Target]:
    port = free_port()
    headers = {
        "Authorization": "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream.port}/v1",
    }
    async with _process(PORTKEY, port, "node", str(peers.portkey()), f"--port={port}", "--headless"):
        yield Target(PORTKEY, port, headers)


BOT = """\
apiVersion: chatbot-operator.io/v1alpha1
kind: ChatbotDeployment
metadata: {{name: rig}}
spec:
  limits: {{perMinute: 1000000, perHour: 1000000, perDay: 1000000}}
  telemetry: {{otlp: {{endpoint: "http://127.0.0.1:{model}"}}, sampleRatio: "0.1"}}
  llm:
    providers:
      - {{name: scripted, type: OpenAICompatible, baseURL: "http://127.0.0.1:{model}/v1", maxConcurrency: 2000}}
    models:
      - {{name: bench, deployments: [{{provider: scripted, model: bench}}]}}
      - {{name: slow, deployments: [{{provider: scripted, model: slow}}]}}
    default: bench
"""


class Ours:
    """The whole platform as `chatbot up` starts it: gateway, chat, conversation, auth, worker, Postgres and Valkey."""

    def __init__(self, folder: Path, port: int) -> None:
        self._file = folder / "bench.yaml"
        self._environment = os.environ | {"CHATBOT_HOME": str(folder / "home")}
        self._port = port

    async def up(self, upstream: Target) -> None:
        """Raises `Failed`."""
        self._file.write_text(BOT.format(model=upstream.port), encoding="utf-8")
        await self.run("up", "--file", str(self._file), "--port", str(self._port), "--no-discovery")

    async def run(self, *words: str) -> str:
        """What `chatbot WORDS` prints. Raises `Failed`."""
        command = str(Path(sys.executable).with_name("chatbot"))
        process = await asyncio.create_subprocess_exec(
            command,
            *words,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise Failed(f"chatbot {words[0]} failed:\n{(out + err).decode()[-2000:]}")
        return out.decode().strip()

    async def target(self) -> Target:
        """With a token of now: one lives for 15 minutes."""
        return Target(OURS, self._port, {"Authorization": f"Bearer {await self.run('token')}"})

    def memory(self) -> Mapping[str, float]:
        """MB that each service occupies."""
        return {
            name: sum(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20
            for name, pids in self.processes().items()
            if name not in STORES
        }

    def processes(self) -> dict[str, list[int]]:
        """The ids of each service's, and of the stores', whose own begin with no word of ours."""
        home, found = self._environment["CHATBOT_HOME"], dict[str, list[int]]()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if home in " ".join([*words, *process.environ().values()]) and (name := _name(words)):
                    below = process.children(recursive=True) if name in STORES else ()
                    found.setdefault(name, []).extend(each.pid for each in (process, *below))
        return found


def _name(words: list[str]) -> str | None:
    """Of one of our processes, by its command line."""
    named = [word.removeprefix("chatbot_") for word in words if word.startswith("chatbot_")]
    if named:
        return "worker" if "worker" in words else named[0]
    return next((store for store in STORES if any(store in word for word in words[:1])), None)


@contextlib.asynccontextmanager
async def ours(upstream: Target) -> AsyncIterator[Ours]:
    with tempfile.TemporaryDirectory() as folder:
        platform = Ours(Path(folder), free_port())
        try:
            await platform.up(upstream)
            yield platform
        finally:
            with contextlib.suppress(Failed):
                await platform.run("down", "--purge", "--yes")


@contextlib.asynccontextmanager
async def _process(name: str, port: int, *command: str, **environment: str) -> AsyncIterator[int]:
    """Its id, once it listens; ended with all that it started."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment,
        )
        try:
            if not await _listens(process, port):
                said.seek(0)
                raise Failed(f"{name} did not start:\n{said.read()[-2000:].decode(errors='replace')}")
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return True
    return False
