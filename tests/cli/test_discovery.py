"""A model found on this machine."""

import asyncio

import pytest
from chatbot_cli.discovery import discover, ollama_url
from chatbot_cli.errors import CliError
from chatbot_cli.references import resolve
from chatbot_resource.documents import Documents
from chatbot_resource.model import ChatbotDeployment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.serving import serving

CLOSED = {"OLLAMA_HOST": "127.0.0.1:1"}


def bot(**spec: object) -> ChatbotDeployment:
    return ChatbotDeployment.model_validate(
        {
            "apiVersion": "chatbot-operator.io/v1alpha1",
            "kind": "ChatbotDeployment",
            "metadata": {"name": "demo"},
            "spec": spec,
        }
    )


def ollama(*names: str) -> Starlette:
    """What Ollama says about its models."""

    async def tags(_: Request) -> JSONResponse:
        return JSONResponse({"models": [{"name": name} for name in names]})

    return Starlette(routes=[Route("/api/tags", tags)])


class TestDiscover:
    def test_a_key_becomes_the_default_with_the_knowledge_behind_it(self) -> None:
        sources = [{"OPENAI_API_KEY": "sk-x", "OPENAI_MODEL": "gpt-x", **CLOSED}]
        found, text, _ = discover(bot(), sources)
        llm = found.spec.llm
        assert (llm.default, llm.fallbacks) == ("gpt-x", ["retrieval"])
        assert [(provider.name, provider.type) for provider in llm.providers] == [
            ("openai", "OpenAI"),
            ("retrieval", "Retrieval"),
        ]
        assert "OPENAI_API_KEY found: gpt-x" in (text or "")
        assert "sk-x" not in (text or "")
        assert resolve(Documents(found, {}, {}), found, list(sources)).provider_keys == {"openai": "sk-x"}
        assert ChatbotDeployment.model_validate(found.model_dump(by_alias=True)) == found

    def test_another_server_for_the_key_is_honoured(self) -> None:
        found, text, _ = discover(bot(), [{"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}])
        assert found.spec.llm.providers[0].base_url == "http://127.0.0.1:9/v1"
        assert "127.0.0.1:9" in (text or "")

    def test_anthropic(self) -> None:
        sources = [{"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "https://claude.example"}]
        found, _, _ = discover(bot(), sources)
        assert found.spec.llm.providers[0].type == "Anthropic"
        assert found.spec.llm.providers[0].base_url == "https://claude.example/v1"

    async def test_the_first_ollama_model_that_can_talk(self) -> None:
        async with serving(ollama("nomic-embed-text:latest", "llama3.2:latest")) as url:
            found, text, _ = await asyncio.to_thread(discover, bot(), [{"OLLAMA_HOST": url}])
        assert found.spec.llm.default == "llama3.2:latest"
        assert found.spec.llm.providers[0].base_url == f"{url}/v1"
        assert "Ollama found" in (text or "")

    async def test_an_ollama_without_models_does_not_count(self) -> None:
        async with serving(ollama()) as url:
            found, _, _ = await asyncio.to_thread(discover, bot(), [{"OLLAMA_HOST": url}])
        assert found.spec.llm.models == []

    def test_nothing_found_says_what_that_means(self) -> None:
        found, text, _ = discover(bot(), [CLOSED])
        assert found == bot()
        assert "answers quote the knowledge" in (text or "")

    def test_a_file_that_names_its_models_is_left_alone(self) -> None:
        own = bot(
            llm={
                "providers": [{"name": "r", "type": "Retrieval"}],
                "models": [{"name": "m", "deployments": [{"provider": "r", "model": "r"}]}],
                "default": "m",
            }
        )
        assert discover(own, [{"OPENAI_API_KEY": "k"}]) == (own, None, None)

    @pytest.mark.parametrize(
        "variables",
        [
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "localhost"},
            {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "a b"},
            {"OLLAMA_HOST": "host:port"},
        ],
        ids=["address", "model", "port"],
    )
    def test_what_is_malformed_names_the_variables(self, variables: dict[str, str]) -> None:
        with pytest.raises(CliError, match="cannot be used") as caught:
            discover(bot(), [variables])
        assert "OPENAI_BASE_URL" in (caught.value.hint or "")


class TestOllamaUrl:
    @pytest.mark.parametrize(
        ("host", "url"),
        [
            (None, "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 - what its users write
            ("box", "http://box:11434"),
            ("box:80", "http://box:80"),
            ("http://box:1234/", "http://box:1234"),
            ("https://box", "https://box:443"),
        ],
    )
    def test_reads_every_form(self, host: str | None, url: str) -> None:
        assert ollama_url(host) == url
