"""The page's own logic without a browser: how events make an answer, which branch is shown, what a run survives."""

import asyncio
import shutil
from pathlib import Path

import pytest

TESTS = sorted((Path(__file__).parent / "page").glob("*.test.mjs"))


async def test_modules_of_the_page() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("NOT TESTED: modules of the page, since there is no Node.js here; install node")
    process = await asyncio.create_subprocess_exec(
        *(node, "--test", *map(str, TESTS)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-6000:]
