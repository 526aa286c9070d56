"""The page in a real browser, before the real gateway, chat and conversation: one visit, step by step."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatbot_common.ids import uuid7
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.chat.running import Chat
from tests.chat.test_approvals import INSTALLED, ordered
from tests.gateway.support import gateway
from tests.support.browser import Page, browsing
from tests.support.identity import Keys
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(120)

HTML = "<img src=x onerror=alert(1)>"
"""What a model may put into its arguments, and a tool into its result."""


def calls(*rounds: list[Any]) -> str:
    """A question that makes the model call these tools, then repeat what they returned."""
    return json.dumps(list(rounds))


@pytest.fixture
def told(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("chatbot_chat.tools.factory.entry_points", lambda group: INSTALLED.select(group=group))
    ordered.clear()
    return told | {
        "default_model": "agent",
        "moderation": {"input": "Block", "output": "Off", "provider": None, "rules_file": None},
        "tools": told["tools"] | {"enabled": ["calculator", "current_time", "order"]},
    }


def accounts(keys: Keys) -> Starlette:
    """As much of auth as the page needs: everybody is Ada."""
    token = keys.access_token(uuid7())

    async def pair(_: Request) -> Response:
        return JSONResponse({"access_token": token, "refresh_token": None, "token_type": "bearer", "expires_in": 900})

    async def me(_: Request) -> Response:
        return JSONResponse({"email": "ada@example.com", "name": "Ada"})

    return Starlette(
        routes=[
            Route("/api/v1/auth/login", pair, methods=["POST"]),
            Route("/api/v1/auth/refresh", pair, methods=["POST"]),
            Route("/api/v1/users/me", me),
            Mount("/", keys.jwks_app()),
        ]
    )


@pytest.fixture
async def page(keys: Keys, redis_url: str, conversation_url: str, chat: Chat) -> AsyncIterator[Page]:
    """Signed in."""
    async with browsing() as page, serving(accounts(keys)) as auth:
        urls = {"auth": auth, "chat": str(chat.client.base_url), "conversation": conversation_url}
        async with gateway(keys, redis_url, urls) as (url, _):
            await page.open(url)
            await page.until("document.querySelector('#account')?.hidden === false")
            await page.picture("account")
            await page.write("[name=email]", "ada@example.com")
            await page.write("[name=password]", "correct horse battery")
            await page.click("#account-form [type=submit]")
            await page.until("document.querySelector('#welcome').hidden === false")
            yield page


async def ask(page: Page, text: str) -> None:
    await page.write("#composer-text", text)
    await page.press("Enter", 13)


async def choose(page: Page, model: str) -> None:
    await page.run(f"const field = document.querySelector('#model'); field.value = {model!r}; {CHANGED}")


CHANGED = "field.dispatchEvent(new Event('change'))"


async def answered(page: Page, text: str) -> None:
    """The newest answer is complete, and says this."""
    await page.until(f"[...document.querySelectorAll('.theirs')].at(-1)?.ariaBusy === 'false' && {LAST} === {text!r}")


LAST = "[...document.querySelectorAll('.theirs')].at(-1).querySelector('.text').innerText"


async def test_a_visit(page: Page) -> None:
    # Tools: what they were asked and what they said is there, as text.
    await ask(page, calls([["calculator", {"expression": "6*7"}], ["current_time", {"timezone": HTML}]]))
    await page.until("document.querySelectorAll('.call[data-state=completed]').length === 1")
    await page.until("document.querySelectorAll('.call[data-state=failed]').length === 1")
    await page.until("[...document.querySelectorAll('.theirs')].at(-1)?.ariaBusy === 'false'")
    assert await page.run("[...document.querySelectorAll('.call')].every((call) => !call.open)")
    await page.run("for (const call of document.querySelectorAll('.call')) call.open = true")
    said = await page.run("[...document.querySelectorAll('.call pre')].map((pre) => pre.textContent)")
    assert said[:2] == ['{\n  "expression": "6*7"\n}', "42"]
    assert HTML in said[2]
    assert await page.run("document.querySelectorAll('#messages img:not(.face)').length") == 0
    await page.picture("tools")

    # Feedback: thumbs, and why.
    await page.click("[aria-label='Bad answer']")
    await page.picture("why")
    await page.write(".why textarea", "Not what I meant.")
    await page.click(".why [type=submit]")
    await page.until(
        "document.activeElement.role === 'status' && document.activeElement.innerText.startsWith('Thank you')"
    )

    # A tool with side effects asks first. What was being edited meanwhile is not sent, and not lost.
    await page.click("[aria-label='Edit this question']")
    await page.write(".editor textarea", "Something else")
    await ask(page, calls([["order", {"what": "tea"}]]))
    await page.until("document.querySelector('.question')")
    await page.click(".editor [type=submit]")
    await page.until("document.querySelector('.editor .notice')?.innerText.includes('is coming in')")
    assert await page.run("document.querySelector('.editor textarea').value") == "Something else"
    await page.click(".editor [type=button]")
    await page.until("document.querySelector('.call[data-state=asked] .state')?.innerText === 'Waits for you'")
    await page.picture("approval")
    asked = await page.run(
        "[document.querySelector('.question').ariaLabel, document.querySelector('#announcer').innerText]"
    )
    assert asked == ["May the assistant use order?"] * 2
    await page.click(".question button.primary")
    await page.until("document.activeElement.innerText?.startsWith('order')")
    await answered(page, "Ordered tea.")
    assert ordered == ["tea"]

    # Edited and answered again: what was there stays beside it.
    await page.click(".mine:nth-last-child(2) [aria-label='Edit this question']")
    await page.picture("edit")
    await page.write(".editor textarea", calls([["calculator", {"expression": "2+3"}]]))
    await page.press("Enter", 13)
    await answered(page, "5")
    assert await page.run("document.activeElement.id") == "composer-text"
    await page.click(".theirs:last-child [aria-label='Answer again']")
    await page.until("document.querySelector('[aria-label=\"answer 2 of 2\"]')")
    await answered(page, "5")
    await page.picture("branches")
    await page.click("[aria-label='Previous question']")
    await answered(page, "Ordered tea.")
    assert await page.run("document.activeElement.ariaLabel") == "Next question"

    # All of it is there after a reload, the newest branch in front.
    await page.run("location.reload()")
    await answered(page, "5")
    assert await page.run("document.querySelector('[aria-label=\"Bad answer\"]').ariaPressed") == "true"
    assert await page.run("document.querySelectorAll('.call').length") == 3

    # Another model for this conversation: it answers, and stays chosen. Then the default again.
    await choose(page, "echo")
    await ask(page, "Who is there?")
    await answered(page, "You said: Who is there? (after 4 messages)")
    await page.run("location.reload()")
    await answered(page, "You said: Who is there? (after 4 messages)")
    await page.until("document.querySelector('#model').value === 'echo'")
    await choose(page, "")

    # What moderation refuses goes back to where it can be changed.
    await ask(page, "Tell me how to build a pipe bomb")
    await page.until("document.querySelector('#messages .notice')?.innerText.includes('Moderation flagged it')")
    await page.picture("refused")
    await page.click("#messages .notice button")
    assert await page.run("document.querySelector('#composer-text').value") == "Tell me how to build a pipe bomb"

    # The model breaks down at what is no JSON: the answer says so, and is tried again in its place.
    await ask(page, "Hello")
    await page.until("document.querySelector('#messages .notice')?.innerText.includes('Provider scripted')")
    await page.picture("failed")
    await page.click("#messages .notice button")
    await page.until("document.querySelector('[aria-busy=true]')")
    await page.until("document.querySelector('#messages .notice')?.innerText.includes('Provider scripted')")
    assert not await page.run("document.querySelector('.theirs:last-child .switcher')")

    unexpected = [text for text in page.complaints if "status of 400" not in text]
    assert unexpected == []
