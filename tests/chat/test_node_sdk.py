"""`/v1` as the official SDK for Node.js sees it, unmodified: what it made of everything, in one go."""

import asyncio
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.chat.running import Face
from tests.support.identity import BOT

HERE = Path(__file__).parent / "node"
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatbot-operator" / "peers"
SAID = "You said: Hello there"


async def installed() -> Path:
    """Where the SDK is: installed once, outside the checkout, pinned by hash."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("NOT TESTED: the official SDK for Node.js, since there is no Node.js here; install node and npm")
    lock = HERE / "package-lock.json"
    home = KEPT / f"openai-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (home / "done").exists():
        home.mkdir(parents=True, exist_ok=True)
        for file in (lock, HERE / "package.json"):
            shutil.copy(file, home)
        await output("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(home))
        (home / "done").touch()
    return home


async def output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()[-4000:]
    return said.decode()


async def test_the_official_sdk_understands_everything(face: Face) -> None:
    told = (str(await installed()), face.base_url, face.credential, BOT)
    found: dict[str, Any] = json.loads(await output("node", str(HERE / "contract.mjs"), *told))

    assert found["models"][0] == BOT
    assert "echo" in found["models"]

    assert found["whole"]["choices"][0]["message"]["content"]
    assert found["accumulated"]
    assert found["raw"]["choices"][0]["message"]["content"] == SAID
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in found["chunks"] if chunk["choices"]]
    assert "".join(pieces).strip() == SAID
    assert found["chunks"][-1]["usage"]["total_tokens"] == 18

    assert found["response"]["output_text"].strip() == found["final"].strip() == SAID
    assert found["response"]["status"] == "completed"
    assert _numbers(found["responses"]) == list(range(len(found["responses"])))
    assert _text(found["responses"]) == found["retrieved"]["output_text"]
    assert found["cancelled"]["status"] == "cancelled"
    both = found["followed"] + found["resumed"]
    assert _numbers(both) == list(range(len(both)))
    assert _text(both) == found["cancelled"]["output"][0]["content"][0]["text"]
    assert (json.loads(found["called"]), found["given"]) == ({"a": 1}, "42")
    assert found["embedding"] == 384

    errors = found["errors"]
    assert (errors["model"]["name"], errors["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert (errors["messages"]["name"], errors["messages"]["param"]) == ("BadRequestError", "messages")
    assert (errors["response"]["name"], errors["response"]["code"]) == ("NotFoundError", "response_not_found")
    assert errors["deleted"]["name"] == "NotFoundError"
    assert (errors["provider"]["name"], errors["provider"]["status"]) == ("InternalServerError", 502)
    assert errors["stream"]["name"] == "APIError"
    assert errors["token"]["name"] == "AuthenticationError"


def _numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence_number"] for event in events]


def _text(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
