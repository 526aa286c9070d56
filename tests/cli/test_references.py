"""References, looked up in the file, the env file and the environment."""

from pathlib import Path

import pytest
from chatbot_cli.errors import CliError
from chatbot_cli.references import References, read_env_file, resolve, variable
from chatbot_resource.documents import parse
from chatbot_resource.fields import KeyRef

BOT = """\
apiVersion: chatbot-operator.io/v1alpha1
kind: ChatbotDeployment
metadata: {name: demo}
spec:
  knowledge: {faqRef: {name: faqs, key: faqs.yaml}}
  llm:
    providers:
      - {name: one, type: OpenAI, apiKeySecretRef: {name: my-openai, key: api-key}}
      - {name: two, type: Retrieval}
    models: [{name: m, deployments: [{provider: one, model: x}]}]
    default: m
    prompts: [{language: en, ref: {name: faqs, key: prompt}}]
"""
TEXTS = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: faqs}\ndata: {faqs.yaml: '[]', prompt: Be kind.}\n"
SECRET = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: my-openai}\nstringData: {api-key: in-file}\n"


def resolved(text: str, *sources: dict[str, str]) -> References:
    documents = parse(text, "f.yaml")
    return resolve(documents, documents.bot, list(sources))


class TestResolve:
    def test_the_files_own_documents_come_first(self) -> None:
        found = resolved(BOT + TEXTS + SECRET, {"MY_OPENAI_API_KEY": "elsewhere"})
        assert found == References("[]", {"en": "Be kind."}, {"one": "in-file"})

    def test_also_the_rules_of_moderation(self) -> None:
        moderation = "  moderation: {provider: Rules, rulesRef: {name: faqs, key: prompt}}\n"
        assert resolved(BOT + moderation + TEXTS + SECRET).rules == "Be kind."

    def test_also_the_prompts_of_variants(self) -> None:
        variants = "    variants: [{name: a}, {name: b, prompts: [{language: de, ref: {name: faqs, key: KEY}}]}]\n"
        found = resolved(BOT + variants.replace("KEY", "prompt") + TEXTS + SECRET)
        assert found.variant_prompts == {"a": {}, "b": {"de": "Be kind."}}
        with pytest.raises(CliError) as caught:
            resolved(BOT + variants + TEXTS + SECRET)
        assert caught.value.details[0].startswith("spec.llm.variants[b].prompts[de].ref: ConfigMap faqs has no key KEY")

    def test_then_the_sources_in_their_order(self) -> None:
        found = resolved(BOT + TEXTS, {"MY_OPENAI_API_KEY": "env-file"}, {"MY_OPENAI_API_KEY": "environment"})
        assert found.provider_keys == {"one": "env-file"}

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ("OpenAI", "OPENAI_API_KEY"),
            ("Anthropic", "ANTHROPIC_API_KEY"),
            ("Gemini", "GEMINI_API_KEY"),
            ("Gemini", "GOOGLE_API_KEY"),
            ("Mistral", "MISTRAL_API_KEY"),
        ],
    )
    def test_the_providers_usual_variable_will_do(self, kind: str, name: str) -> None:
        bot = BOT.replace("type: OpenAI", f"type: {kind}")
        assert resolved(bot + TEXTS, {name: " usual \n"}).provider_keys == {"one": "usual"}

    def test_a_token_of_an_mcp_server_is_found_in_the_same_way(self) -> None:
        servers = "  tools: {mcpServers: [{name: shop, url: 'http://shop', secretRef: {name: shop, key: token}}]}\n"
        env = {"SHOP_TOKEN": "t", "OPENAI_API_KEY": "o"}
        assert resolved(BOT + servers + TEXTS, env).mcp_tokens == {"shop": "t"}
        with pytest.raises(CliError) as caught:
            resolved(BOT + servers + TEXTS, env | {"SHOP_TOKEN": ""})
        [missing] = caught.value.details
        assert missing.startswith("spec.tools.mcpServers[shop].secretRef: no Secret shop with key token")

    def test_the_keys_own_variable_goes_before_the_usual_one(self) -> None:
        found = resolved(BOT + TEXTS, {"OPENAI_API_KEY": "usual", "MY_OPENAI_API_KEY": "own"})
        assert found.provider_keys == {"one": "own"}

    def test_all_that_is_missing_is_named_with_what_to_do(self) -> None:
        with pytest.raises(CliError) as caught:
            resolved(BOT, {"OPENAI_API_KEY": "  "})
        assert caught.value.message == "3 references lead nowhere:"
        faqs, prompt, key = sorted(caught.value.details, key=lambda line: "prompts" in line or 2 * ("Secret" in line))
        assert faqs.startswith("spec.knowledge.faqRef: there is no ConfigMap faqs in this file")
        assert prompt.startswith("spec.llm.prompts[en].ref: there is no ConfigMap faqs")
        assert "set MY_OPENAI_API_KEY or OPENAI_API_KEY in the environment" in key

    def test_a_missing_key_of_a_config_map_lists_those_there_are(self) -> None:
        with pytest.raises(CliError) as caught:
            resolved(BOT + TEXTS.replace("faqs.yaml:", "other:"), {"OPENAI_API_KEY": "x"})
        assert "ConfigMap faqs has no key faqs.yaml; it has other, prompt" in caught.value.details[0]

    def test_no_secret_shows_in_a_repr(self) -> None:
        assert "in-file" not in repr(resolved(BOT + TEXTS + SECRET))


class TestVariable:
    def test_is_name_and_key_in_capitals(self) -> None:
        assert variable(KeyRef(name="my.openai-1", key="api_key.txt")) == "MY_OPENAI_1_API_KEY_TXT"


class TestReadEnvFile:
    def test_reads_what_a_shell_would(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("# keys\n\nexport A=one\nB = 'two # no comment' # comment\nC=\"three\"\nD=four # comment\nE=\n")
        assert read_env_file(file) == {"A": "one", "B": "two # no comment", "C": "three", "D": "four", "E": ""}

    def test_a_wrong_line_is_named_without_its_content(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("A=1\nsk-secret\n")
        with pytest.raises(CliError) as caught:
            read_env_file(file)
        assert caught.value.message == f"{file}:2: not of the form NAME=value."

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(CliError, match=r"none cannot be read: No such file"):
            read_env_file(tmp_path / "none")
