"""References of a resource, resolved on a laptop.

A ConfigMap must stand in the same file. A key of a Secret is looked up, in this order, in the Secrets of the same
file, in the file of `--env-file`, and in the environment, under two names each: the Secret's name and key in capitals
(Secret `my-openai`, key `api-key`: MY_OPENAI_API_KEY), then the provider's usual one (OPENAI_API_KEY).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_resource.documents import Documents
from chatbot_resource.fields import KeyRef
from chatbot_resource.llm import Prompt
from chatbot_resource.model import ChatbotDeployment

from chatbot_cli.errors import CliError

USUAL: Mapping[str, tuple[str, ...]] = {
    "OpenAI": ("OPENAI_API_KEY",),
    "Anthropic": ("ANTHROPIC_API_KEY",),
    "Gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "Mistral": ("MISTRAL_API_KEY",),
}


@dataclass(frozen=True)
class References:
    """What the resource refers to. Reprs show no secret."""

    faqs: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Language → text."""
    provider_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    embeddings_key: str | None = field(default=None, repr=False)
    mcp_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """MCP server → token."""
    rules: str | None = None
    """Of moderation."""
    variant_prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variant → language → text."""


def variable(ref: KeyRef) -> str:
    """Name of the environment variable that stands for a key of a Secret."""
    return re.sub(r"[^A-Z0-9]+", "_", f"{ref.name}_{ref.key}".upper())


def resolve(documents: Documents, bot: ChatbotDeployment, sources: list[Mapping[str, str]]) -> References:
    """Look every reference up.

    Args:
        bot: the deployment, which may have more providers than the one in `documents`.
        sources: variables, in the order in which they are asked.

    Raises:
        CliError: names every reference that leads nowhere, and what to do about it.
    """
    resolver = _Resolver(documents, sources)
    spec = bot.spec
    references = References(
        faqs=resolver.text("spec.knowledge.faqRef", spec.knowledge.faq_ref),
        prompts=resolver.prompts("spec.llm", spec.llm.prompts),
        variant_prompts={
            variant.name: resolver.prompts(f"spec.llm.variants[{variant.name}]", variant.prompts)
            for variant in spec.llm.variants
        },
        rules=resolver.text("spec.moderation.rulesRef", spec.moderation.rules_ref),
        provider_keys={
            provider.name: key
            for provider in spec.llm.providers
            if (key := resolver.key(f"spec.llm.providers[{provider.name}]", provider.api_key_secret_ref, provider.type))
        },
        embeddings_key=resolver.key("spec.embeddings", spec.embeddings.api_key_secret_ref, "OpenAI"),
        mcp_tokens={
            server.name: token
            for server in spec.tools.mcp_servers
            if (token := resolver.key(f"spec.tools.mcpServers[{server.name}]", server.secret_ref, "MCP", "secretRef"))
        },
    )
    resolver.check()
    return references


class _Resolver:
    def __init__(self, documents: Documents, sources: list[Mapping[str, str]]) -> None:
        self._documents = documents
        self._sources = sources
        self._missing: list[str] = []

    def text(self, path: str, ref: KeyRef | None) -> str | None:
        """One key of a ConfigMap."""
        if ref is None:
            return None
        config_map = self._documents.config_maps.get(ref.name)
        if config_map is None:
            self._missing.append(
                f"{path}: there is no ConfigMap {ref.name} in this file; add it as another document, after '---'"
            )
        elif ref.key not in config_map:
            keys = ", ".join(config_map) or "nothing"
            self._missing.append(f"{path}: ConfigMap {ref.name} has no key {ref.key}; it has {keys}")
        else:
            return config_map[ref.key]
        return None

    def prompts(self, path: str, prompts: Iterable[Prompt]) -> dict[str, str]:
        return {item.language: self.text(f"{path}.prompts[{item.language}].ref", item.ref) or "" for item in prompts}

    def key(self, path: str, ref: KeyRef | None, kind: str, field: str = "apiKeySecretRef") -> str | None:
        """One key of a Secret."""
        if ref is None:
            return None
        if value := self._documents.secrets.get(ref.name, {}).get(ref.key):
            return value.strip()
        names = list(dict.fromkeys([variable(ref), *USUAL.get(kind, ())]))
        for source in self._sources:
            for name in names:
                if value := source.get(name, "").strip():
                    return value
        self._missing.append(
            f"{path}.{field}: no Secret {ref.name} with key {ref.key} in this file; add one, or set "
            f"{' or '.join(names)} in the environment or in the file of --env-file"
        )
        return None

    def check(self) -> None:
        if self._missing:
            what = "A reference leads" if len(self._missing) == 1 else f"{len(self._missing)} references lead"
            raise CliError(f"{what} nowhere:", details=self._missing)


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; `export`, quotes, blank lines and `#` comments as in a shell.

    Raises:
        CliError: names the line that is none of these, not its content.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}.") from None
    variables: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = re.fullmatch(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", text)
        if match is None:
            raise CliError(f"{path}:{number}: not of the form NAME=value.")
        variables[match[1]] = _unquoted(match[2])
    return variables


def _unquoted(value: str) -> str:
    for quote in "\"'":
        if value.startswith(quote) and (end := value.find(quote, 1)) > 0:
            return value[1:end]
    return re.split(r"\s+#", value, maxsplit=1)[0].strip()
