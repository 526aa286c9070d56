"""A model found on this machine, for a resource that names none: a key in the environment, or a local Ollama."""

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chatbot_resource.fields import KeyRef
from chatbot_resource.llm import LanguageModel, Llm, ModelDeployment, Provider, ProviderType, resolve_llm
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli.errors import CliError

OLLAMA_PORT = 11434
OLLAMA_SECONDS = 1.0
FORGET = "--no-discovery leaves it out"

# Small and quick models: the first answer should come soon and cost little. Another one: OPENAI_MODEL, ANTHROPIC_MODEL.
OPENAI_MODEL = "gpt-5.4-mini"
ANTHROPIC_MODEL = "claude-haiku-4-5"


@dataclass(frozen=True)
class Found:
    """A provider, the model to use there, and what to say about it."""

    provider: Provider
    model: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """What `remembered` reads; holds no key."""
        return {"provider": self.provider.model_dump(mode="json", by_alias=True), "model": self.model}


def remembered(document: Mapping[str, Any] | None) -> Found | None:
    """What was found the last time; None when there is nothing or it cannot be read."""
    try:
        provider = Provider.model_validate((document or {})["provider"])
        model = str((document or {})["model"])
    except (KeyError, ValueError, TypeError):
        return None
    where = f" at {urlsplit(provider.base_url).netloc}" if provider.base_url else ""
    return Found(provider, model, f"{model} of {provider.type}{where} answers  (as last time; {FORGET})")


def discover(
    bot: ChatbotDeployment, sources: list[Mapping[str, str]], last: Found | None = None
) -> tuple[ChatbotDeployment, str | None, Found | None]:
    """Give a bot without models the one that was found; quoting the knowledge stays as second model and fallback.

    Args:
        sources: variables, in the order in which they are asked.
        last: what was found the last time; stays in use until a key in `sources` takes its place.

    Returns:
        The bot, one line that says what was found (None when the file names its models), and what was found.

    Raises:
        CliError: an address or model name in the environment is malformed.
    """
    if bot.spec.llm.models:
        return bot, None, None
    try:
        found = find(sources, last)
        llm = _with(bot.spec.llm, found) if found else None
    except ValueError:  # pydantic's and urlsplit's alike; their texts would quote what may be a secret
        raise CliError(
            "A model was found in the environment, but it cannot be used as it is written.",
            "Look at OPENAI_BASE_URL, OPENAI_MODEL, ANTHROPIC_BASE_URL, ANTHROPIC_MODEL, OLLAMA_HOST; "
            "--no-discovery leaves them alone.",
        ) from None
    if found is None:
        text = "no model key and no Ollama found: answers quote the knowledge (set OPENAI_API_KEY for a model)"
        return bot, text, None
    spec = bot.spec.model_copy(update={"llm": llm})
    return bot.model_copy(update={"spec": spec}), found.text, found


def find(sources: list[Mapping[str, str]], last: Found | None = None) -> Found | None:
    """The first of OpenAI and Anthropic that has a key; else that of last time; else Ollama."""
    if found := _keyed("OpenAI", OPENAI_MODEL, sources) or _keyed("Anthropic", ANTHROPIC_MODEL, sources):
        return found
    if last is None or last.provider.type == "Ollama":
        return _ollama(sources) or last
    return last


def _with(llm: Llm, found: Found) -> Llm:
    retrieval = resolve_llm(llm)
    provider = found.provider
    model = LanguageModel(name=found.model, deployments=[ModelDeployment(provider=provider.name, model=found.model)])
    others = [item for item in retrieval.providers if item.name != provider.name]
    return retrieval.model_copy(
        update={
            "providers": [provider, *others],
            "models": [model, *retrieval.models],
            "default": model.name,
            "fallbacks": [item.name for item in retrieval.models],
        }
    )


def _keyed(kind: ProviderType, model: str, sources: list[Mapping[str, str]]) -> Found | None:
    prefix = kind.upper()
    if not _get(sources, f"{prefix}_API_KEY"):
        return None
    base_url = _get(sources, f"{prefix}_BASE_URL")
    if base_url and kind == "Anthropic":
        # Anthropic's own clients add the version to this address, OpenAI's expect it to be there.
        base_url = base_url.rstrip("/").removesuffix("/v1") + "/v1"
    chosen = _get(sources, f"{prefix}_MODEL") or model
    provider = Provider(
        name=kind.lower(),
        type=kind,
        base_url=base_url.rstrip("/") if base_url else None,
        # Stands for the variable itself: Secret `openai`, key `api-key` is looked up as OPENAI_API_KEY.
        api_key_secret_ref=KeyRef(name=kind.lower(), key="api-key"),
    )
    where = f" at {urlsplit(base_url).netloc}" if base_url else ""
    return Found(provider, chosen, f"{prefix}_API_KEY found: {chosen} answers{where} (another: {prefix}_MODEL)")


def _ollama(sources: list[Mapping[str, str]]) -> Found | None:
    url = ollama_url(_get(sources, "OLLAMA_HOST"))
    names = [str(model.get("name", "")) for model in _tags(url)]
    usable = [name for name in names if name and "embed" not in name]
    if not usable:
        return None
    chosen = _get(sources, "OLLAMA_MODEL") or usable[0]
    provider = Provider(name="ollama", type="Ollama", base_url=f"{url}/v1")
    return Found(provider, chosen, f"Ollama found at {urlsplit(url).netloc}: {chosen} answers (another: OLLAMA_MODEL)")


def ollama_url(host: str | None) -> str:
    """Address of Ollama from what OLLAMA_HOST may hold: a host, host:port, or a URL; also the server's 0.0.0.0."""
    parts = urlsplit(host if host and "://" in host else f"http://{host or '127.0.0.1'}")
    name = "127.0.0.1" if parts.hostname in (None, "0.0.0.0", "::") else parts.hostname  # noqa: S104 - read, not bound
    default = OLLAMA_PORT if parts.scheme == "http" and not (host or "").startswith("http") else None
    port = parts.port or default or {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{f'[{name}]' if ':' in str(name) else name}:{port}"


def _tags(url: str) -> list[dict[str, Any]]:
    """The models an Ollama has; none when there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/tags", timeout=OLLAMA_SECONDS) as response:
            models = json.load(response).get("models", [])
            return [model for model in models if isinstance(model, dict)]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _get(sources: list[Mapping[str, str]], name: str) -> str | None:
    return next((value for source in sources if (value := source.get(name, "").strip())), None)
