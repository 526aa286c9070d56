"""The gateways to compare with, each in an environment of its own: pinned by hash, kept outside the checkout."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from turnbench.load import Failed

LOCKS = Path(__file__).parents[1] / "peers"
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatbot-operator" / "peers"


def litellm() -> Path:
    """The command `litellm`, installed when it is not there."""
    lock = LOCKS / "litellm.txt"
    home = _home("litellm", lock)
    if not (home / "done").exists():
        _say("LiteLLM", "a minute")
        _run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(home))
        python = str(home / "bin/python")
        _run("uv", "pip", "install", "--quiet", "--require-hashes", "--python", python, "-r", str(lock))
        (home / "done").touch()
    return home / "bin/litellm"


def portkey() -> Path:
    """The script that starts Portkey's gateway under Node.js, installed when it is not there."""
    if shutil.which("npm") is None:
        raise Failed("Portkey's gateway needs Node.js and npm; install them, or leave it out with --without portkey.")
    lock = LOCKS / "package-lock.json"
    home = _home("portkey", lock)
    if not (home / "done").exists():
        _say("Portkey's gateway", "half a minute")
        home.mkdir(parents=True, exist_ok=True)
        for file in (lock, LOCKS / "package.json"):
            shutil.copy(file, home)
        _run("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(home))
        (home / "done").touch()
    return home / "node_modules/@portkey-ai/gateway/build/start-server.js"


def _home(name: str, lock: Path) -> Path:
    return KEPT / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def _say(what: str, long: str) -> None:
    print(f"Installing {what} (once, {long}) …", file=sys.stderr, flush=True)


def _run(*command: str) -> None:
    tool = shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    words: Sequence[str] = (tool or command[0], *command[1:])
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - fixed commands
    if done.returncode:
        raise Failed(f"{' '.join(command[:3])} failed:\n{done.stderr[-2000:]}")
