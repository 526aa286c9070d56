"""The model found the last time stays; one that refuses or is not there is named."""

import asyncio
from pathlib import Path

import pytest
from chatbot_cli import keys, state
from chatbot_cli.home import Home
from chatbot_cli.probe import trouble
from chatbot_cli.state import State
from chatbot_cli.wish import Options, Wish, understand
from chatbot_resource.fields import KeyRef
from chatbot_resource.llm import Provider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.support.serving import serving

NOBODY = "http://127.0.0.1:1/v1"
BOT = (
    "apiVersion: chatbot-operator.io/v1alpha1\nkind: ChatbotDeployment\nmetadata: {name: demo}\nspec: {profile: Dev}\n"
)


def wish(tmp_path: Path, *, discovery: bool = True) -> Wish:
    file = tmp_path / "f.yaml"
    file.write_text(BOT)
    return understand(Options(file, discovery=discovery))


def record(home: Home, wish: Wish) -> None:
    """What `up` writes down."""
    keys.write_provider_keys(home, wish.references.provider_keys, None, {})
    state.save(home, State(discovered=wish.discovered.as_json() if wish.discovered else None))


class TestLastTime:
    @pytest.fixture(autouse=True)
    def first(self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
        with monkeypatch.context() as shell:
            shell.setenv("OPENAI_API_KEY", "sk-first")
            shell.setenv("OPENAI_BASE_URL", NOBODY)
            shell.setenv("OPENAI_MODEL", "gpt-x")
            record(home, wish(tmp_path))

    def test_goes_on_without_the_key_in_the_shell(self, home: Home, tmp_path: Path) -> None:
        again = wish(tmp_path)
        assert again.bot.spec.llm.default == "gpt-x"
        assert again.bot.spec.llm.providers[0].base_url == NOBODY
        assert again.references.provider_keys == {"openai": "sk-first"}
        assert "as last time; --no-discovery leaves it out" in (again.found or "")
        assert "sk-first" not in home.state_file.read_text()

    def test_another_key_takes_its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "other")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", NOBODY)
        again = wish(tmp_path)
        assert again.references.provider_keys == {"anthropic": "other"}
        assert "as last time" not in (again.found or "")

    def test_no_discovery_forgets_it(self, home: Home, tmp_path: Path) -> None:
        record(home, wish(tmp_path, discovery=False))
        assert wish(tmp_path).discovered is None

    def test_without_its_key_it_is_gone(self, home: Home, tmp_path: Path) -> None:
        keys.write_provider_keys(home, {}, None, {})
        assert wish(tmp_path).discovered is None

    def test_a_server_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        assert "127.0.0.1:1 cannot be reached" in (wish(tmp_path).trouble or "")


class TestTrouble:
    async def ask(self, answer: Response) -> tuple[str | None, list[str | None]]:
        seen: list[str | None] = []

        async def models(request: Request) -> Response:
            seen.append(request.headers.get("Authorization"))
            return answer

        app = Starlette(routes=[Route("/v1/models", models), Route("/elsewhere", models)])
        async with serving(app) as url:
            ref = KeyRef(name="openai", key="api-key")
            provider = Provider(name="openai", type="OpenAI", base_url=f"{url}/v1", api_key_secret_ref=ref)
            return await asyncio.to_thread(trouble, provider, "sk-x"), seen

    async def test_none_where_the_key_is_taken(self) -> None:
        assert await self.ask(JSONResponse({"data": []})) == (None, ["Bearer sk-x"])

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_refused_key(self, status: int) -> None:
        text, _ = await self.ask(Response(status_code=status))
        assert f"refuses the key ({status})" in (text or "")
        assert "sk-x" not in (text or "")

    async def test_a_server_without_a_list_of_models_may_be_fine(self) -> None:
        assert (await self.ask(Response(status_code=404)))[0] is None

    async def test_a_redirect_does_not_get_the_key(self) -> None:
        assert await self.ask(RedirectResponse("/elsewhere")) == (None, ["Bearer sk-x"])
