"""A real browser, driven over its DevTools protocol: what the page does is seen where it does it."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.patience import within

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",
)
PICTURES = os.environ.get("PAGE_PICTURES")
"""A folder in which pictures of the page are left, for people to look at."""
PATIENCE_SECONDS = 30.0


class Gone(Exception):
    """The page that was asked has been left, as by a reload."""


class Page:
    """One tab. `complaints` is what the browser itself objected to: errors of scripts, violations of the policy."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        return await self._answers[number]

    async def listen(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message.get("result", message))
            elif message["method"] == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.complaints.append(details.get("exception", details).get("description", str(details)))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        told = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "result" not in told:
            raise Gone(told)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait for an expression to be true. Fails with all the text that is shown instead."""
        try:
            async with within(PATIENCE_SECONDS):
                while not await self._is_true(script):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.run("document.body.innerText")
            raise AssertionError(f"never true: {script}\n{self.complaints}\n{shown}") from None

    async def _is_true(self, script: str) -> bool:
        try:
            return bool(await self.run(f"Boolean({script})"))
        except Gone:  # while it was asked, and another page is coming
            return False

    async def click(self, selector: str) -> None:
        """As soon as it is there. By its label for the screen reader, where that is what the selector names."""
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def write(self, selector: str, text: str) -> None:
        """Into a field, in place of what it holds."""
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).select()")
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def picture(self, name: str) -> None:
        """In light, in dark, and as a phone shows it, where somebody wants pictures."""
        if PICTURES is None:
            return
        for variant, width, height, scheme in (
            ("light", 1180, 860, "light"),
            ("dark", 1180, 860, "dark"),
            ("phone", 390, 844, "light"),
        ):
            mobile = variant == "phone"
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
            await self.call("Emulation.setDeviceMetricsOverride", **size)
            await self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
            await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            await asyncio.sleep(0.4)  # for a person's eye only
            shot = await self.call("Page.captureScreenshot", format="png")
            await asyncio.to_thread(Path(PICTURES, f"{name}-{variant}.png").write_bytes, base64.b64decode(shot["data"]))
        await self.call("Emulation.clearDeviceMetricsOverride")
        await self.call("Emulation.setTouchEmulationEnabled", enabled=False)


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """An empty tab of a browser of our own. Skips where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("NOT TESTED: the page in a browser, since there is none here; install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(program, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with _tab(await _port(process)) as page:
                yield page
        finally:
            process.terminate()
            await process.communicate()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Where it listens, which it tells on its error stream."""
    assert process.stderr
    async with within(PATIENCE_SECONDS):
        async for line in process.stderr:
            if b"DevTools listening on" in line:
                return int(line.split(b":")[2].split(b"/")[0])
    raise AssertionError("the browser did not start")


@contextlib.asynccontextmanager
async def _tab(port: int) -> AsyncIterator[Page]:
    browser = f"ws://127.0.0.1:{port}/devtools"
    targets = await _targets(port)
    tab = next(target["id"] for target in targets if target["type"] == "page")
    async with connect(f"{browser}/page/{tab}", max_size=None) as socket:
        page = Page(socket)
        listening = asyncio.create_task(page.listen())
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            listening.cancel()
            await asyncio.wait({listening})


async def _targets(port: int) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        found: list[dict[str, Any]] = (await client.get(f"http://127.0.0.1:{port}/json")).json()
    return found
