"""Reading a resource file: what is right passes, what is wrong is named with line and field, all of it at once."""

from base64 import b64encode
from pathlib import Path

import pytest
import yaml
from chatbot_resource.documents import Documents, InvalidFile, load, parse
from hypothesis import given, settings
from hypothesis import strategies as st

FIELDS = st.sampled_from(["llm", "limits", "perMinute", "models", "name", "x"])
SAMPLES = Path(__file__).parents[2] / "k8s" / "samples"
BOTS = sorted(path for path in SAMPLES.glob("*.yaml") if path.read_text().count("kind: ChatbotDeployment") == 1)
"""Those of one bot, which a laptop can run."""

HEAD = """\
apiVersion: chatbot-operator.io/v1alpha1
kind: ChatbotDeployment
metadata:
  name: demo
"""


def mistakes(text: str) -> list[str]:
    """What is wrong with a file, one `line: path: text` each."""
    with pytest.raises(InvalidFile) as caught:
        parse(text, "f.yaml")
    return [line.removeprefix("f.yaml:") for line in str(caught.value).splitlines()]


class TestMistakes:
    def test_of_one_rule_are_named_all_at_once(self) -> None:
        models = "models: [{name: m, deployments: [{provider: p, model: x}]}], default: m"
        fake = f"{{providers: [{{name: p, type: Fake}}], {models}}}"
        text = f"{HEAD}spec:\n  profile: Production\n  stores: {{postgres: {{mode: Dev}}}}\n  llm: {fake}\n"
        text += '  network: {policy: "Off"}\n'
        assert [line.partition(" needs ")[2].split()[0] for line in mistakes(text)] == [
            "network.policy",
            "providers",
            "stores",
        ]
        asleep = "{mode: KEDA, minReplicas: 0, targets: {inFlightStreams: 9}}"
        text = f"{HEAD}spec:\n  components: {{gateway: {{drainSeconds: 1, scaling: {asleep}}}}}\n"
        assert [line.partition("spec.components: ")[2].split()[0] for line in mistakes(text)] == [
            "gateway.drainSeconds",
            "gateway.scaling.minReplicas",
        ]
        text = f"{HEAD}spec:\n  llm: {{default: nowhere, fallbacks: [away]}}\n"
        assert [line.partition("spec.llm: ")[2] for line in mistakes(text)] == [
            "'away' is not in models",
            "'nowhere' is not in models",
        ]

    def test_of_a_field_hide_none_between_others(self) -> None:
        text = f'{HEAD}spec:\n  profile: Production\n  network: {{policy: "Off"}}\n'
        found = mistakes(text + "  limits: {perMinute: 0}\n  lim: {}\n")
        assert len(found) == 4
        for line, said in (
            ("5", "spec: profile Production needs network.policy Enforce"),
            ("5", "spec: profile Production needs stores"),
            ("8", "spec.limits.perMinute: must be greater"),
            ("9", "spec.lim: unknown field; did you mean"),
        ):
            assert [one for one in found if one.startswith(line) and said in one], said

    def test_nothing_is_said_of_what_cannot_be_read(self) -> None:
        text = f"{HEAD}spec:\n  profile: Production\n  stores: {{postgres: {{mode: External, size: 1}}}}\n"
        assert not [line for line in mistakes(text) if "profile Production" in line]


class TestParse:
    def test_reads_the_bot_and_what_stands_beside_it(self) -> None:
        secret = b64encode(b"s3cret").decode()
        text = f"""{HEAD}spec:
  profile: Dev
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: texts}}
data:
  greeting: |
    Hello
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
data: {{a: {secret}}}
stringData: {{b: plain}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: chat}}
"""
        documents = parse(text, "f.yaml")
        assert documents.bot.name == "demo"
        assert documents.bot.spec.profile == "Dev"
        assert documents.config_maps == {"texts": {"greeting": "Hello\n"}}
        assert documents.secrets == {"keys": {"a": "s3cret", "b": "plain"}}
        assert documents.ignored == ("Namespace chat",)

    def test_shows_no_secret_in_its_repr(self) -> None:
        text = f"{HEAD}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: k}}\nstringData: {{a: hidden-value}}\n"
        assert "hidden-value" not in repr(parse(text, "f.yaml"))

    def test_a_bot_without_spec_is_complete(self) -> None:
        assert parse(HEAD, "f.yaml").bot.spec.limits.per_minute == 60

    def test_what_stands_in_another_namespace_cannot_be_referred_to(self) -> None:
        text = f"{HEAD}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x, namespace: far}}\ndata: {{a: b}}\n"
        documents = parse(text, "f.yaml")
        assert documents.config_maps == {}
        assert documents.ignored == ("ConfigMap x in namespace far",)

    @pytest.mark.parametrize("sample", BOTS, ids=lambda path: path.name)
    def test_every_sample_is_valid(self, sample: Path) -> None:
        assert isinstance(load(sample), Documents)


class TestMistakesInFields:
    def test_an_unknown_field_is_named_with_the_one_that_was_meant(self) -> None:
        text = f"{HEAD}spec:\n  limits:\n    perMinut: 3\n"
        assert mistakes(text) == ["7: spec.limits.perMinut: unknown field; did you mean perMinute?"]

    def test_the_pythonic_spelling_is_not_the_field(self) -> None:
        text = f"{HEAD}spec:\n  limits: {{per_minute: 3}}\n"
        assert mistakes(text) == ["6: spec.limits.per_minute: unknown field; did you mean perMinute?"]

    def test_an_unknown_field_like_no_other_lists_those_there_are(self) -> None:
        text = f"{HEAD}spec:\n  knowledge: {{zzz: 1}}\n"
        assert mistakes(text) == ["6: spec.knowledge.zzz: unknown field; there are: faqRef"]

    def test_wrong_types_say_what_to_write(self) -> None:
        text = f"""{HEAD}spec:
  limits:
    perMinute: "3"
    perHour: 1.5
  llm:
    providers:
      - name: no
        type: Retrieval
        timeouts: {{idle: 30}}
  auth:
"""
        assert mistakes(text) == [
            "7: spec.limits.perMinute: must be a whole number, not text; leave out the quotes",
            "8: spec.limits.perHour: must be a whole number, not a number",
            "11: spec.llm.providers[0].name: must be text, not true or false; put it in quotes",
            "13: spec.llm.providers[0].timeouts.idle: must be text, not a number; put it in quotes",
            "14: spec.auth: must be a mapping, but nothing is written here; leave the field out or write {}",
        ]

    def test_an_item_of_a_list_goes_by_its_name(self) -> None:
        providers = """\
      - {name: local, type: Ollama, baseURL: 5}
      - {name: "no name", type: Retrieval}
      - {type: Retrieval}
"""
        assert mistakes(f"{HEAD}spec:\n  llm:\n    providers:\n{providers}") == [
            "8: spec.llm.providers[local].baseURL: must be text, not a number; put it in quotes",
            "9: spec.llm.providers[1].name: must be lower-case letters, digits and '-'",
            "10: spec.llm.providers[2].name: is missing",
        ]

    def test_a_wrong_choice_names_the_choices(self) -> None:
        assert mistakes(f"{HEAD}spec:\n  profile: dev\n") == [
            "6: spec.profile: must be one of Dev, Standard, Production; did you mean Dev?"
        ]

    def test_a_wrong_form_says_which_form(self) -> None:
        text = HEAD.replace("demo", "My Bot")
        assert mistakes(text) == [
            "4: metadata.name: must be lower-case letters, digits and '-', starting with a letter"
        ]

    def test_a_secret_is_named_by_an_object(self) -> None:
        stores = """spec:
  profile: Production
  stores:
    postgres:
      mode: External
      external: {authSecretRef: {name: auth-db}, conversationSecretRef: {name: chat-db}}
    redis: {mode: External, external: {secretRef: {name: redis}}}
"""
        external = parse(HEAD + stores, "f.yaml").bot.spec.stores.postgres.external
        assert external is not None
        assert (external.auth_secret_ref.name, external.conversation_secret_ref.name) == ("auth-db", "chat-db")
        assert mistakes(HEAD + stores.replace("{name: redis}", "redis")) == [
            "11: spec.stores.redis.external.secretRef: must be a mapping, not text"
        ]

    def test_rules_across_fields_point_at_what_holds_them(self) -> None:
        text = f"{HEAD}spec:\n  llm:\n    default: gpt\n"
        assert mistakes(text) == ["6: spec.llm: 'gpt' is not in models"]

    def test_a_missing_field_points_at_where_it_belongs(self) -> None:
        text = f"{HEAD}spec:\n  knowledge:\n    faqRef: {{name: x}}\n"
        assert mistakes(text) == ["7: spec.knowledge.faqRef.key: is missing"]

    def test_all_mistakes_of_all_documents_come_at_once(self) -> None:
        text = f"""{HEAD}spec: {{limits: {{x: 1}}, profil: Dev}}
---
apiVersion: v2
kind: ConfigMap
metadata: {{name: x}}
data: {{a: 1}}
---
apiVersion: v1
kind: Secret
metadata: {{}}
"""
        assert [line.split(": ")[1] for line in mistakes(text)] == [
            "spec.limits.x",
            "spec.profil",
            "apiVersion",
            "data.a",
            "metadata.name",
        ]


class TestMistakesInDocuments:
    def test_an_empty_file_has_no_bot(self) -> None:
        expected = ["1: holds no ChatbotDeployment (apiVersion: chatbot-operator.io/v1alpha1)"]
        assert mistakes("") == mistakes("---\n---\n") == expected

    def test_a_second_bot_is_refused(self) -> None:
        assert mistakes(f"{HEAD}---\n{HEAD}") == [
            "6: a second ChatbotDeployment (the first is in line 1); write one per file"
        ]

    def test_a_wrong_version_is_named(self) -> None:
        assert mistakes(HEAD.replace("v1alpha1", "v9")) == ["1: apiVersion: must be chatbot-operator.io/v1alpha1"]

    def test_a_misspelt_kind_is_recognised(self) -> None:
        assert mistakes(HEAD.replace("ChatbotDeployment", "ChatBotDeploymnt")) == ["2: kind: must be ChatbotDeployment"]

    def test_a_document_that_is_no_mapping(self) -> None:
        assert mistakes(f"{HEAD}---\n- a\n") == ["6: a document must be a mapping, not a list"]

    def test_a_secret_that_is_not_base64_is_named_without_its_value(self) -> None:
        text = f"{HEAD}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: k}}\ndata: {{key: 'sk-hush!'}}\n"
        assert mistakes(text) == ["9: data.key: is not base64; plain text belongs under stringData"]

    def test_two_config_maps_of_one_name(self) -> None:
        config_map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n"
        assert mistakes(HEAD + config_map + config_map) == ["13: metadata.name: a second ConfigMap named x"]


class TestMistakesInYaml:
    def test_a_key_written_twice(self) -> None:
        text = f"{HEAD}spec:\n  profile: Dev\n  profile: Standard\n"
        assert mistakes(text) == ["7: spec.profile: written twice; the first is in line 6"]

    def test_a_tab(self) -> None:
        assert mistakes(f"{HEAD}spec:\n\tprofile: Dev\n") == [
            "6: not valid YAML: a tab at the start of the line; YAML is indented with spaces"
        ]

    def test_broken_syntax_shows_the_line_and_none_of_its_content(self) -> None:
        text = f"{HEAD}spec:\n  auth: {{signup: [hush\n"
        [mistake] = mistakes(text)
        assert "not valid YAML" in mistake
        assert "hush" not in mistake

    def test_aliases_that_multiply_each_other_end_quickly(self) -> None:
        levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
        [mistake] = mistakes(f"a0: &a0 [x]\n{levels}")
        assert "aliases that multiply" in mistake

    def test_an_alias_of_itself(self) -> None:
        assert mistakes("a: &a [*a]\n") == ["1: nested too deeply, or aliases that multiply each other"]

    def test_a_tag_that_would_run_code(self) -> None:
        assert "could not determine a constructor" in mistakes("a: !!python/object/apply:os.system [x]\n")[0]

    def test_anchors_and_merges_work(self) -> None:
        text = f"{HEAD}spec:\n  limits: &x {{perMinute: 5}}\n"
        assert parse(text, "f.yaml").bot.spec.limits.per_minute == 5

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidFile, match="not a UTF-8 text file"):
            load(file)

    @settings(max_examples=60)
    @given(st.text(max_size=200))
    def test_any_text_is_either_read_or_refused(self, text: str) -> None:
        with pytest.raises(InvalidFile) as caught:
            parse(text, "f.yaml")
        assert caught.value.mistakes

    @settings(max_examples=40)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
            max_leaves=12,
        )
    )
    def test_every_mistake_in_any_spec_has_a_line_of_the_file(self, spec: object) -> None:
        text = HEAD + yaml.safe_dump({"spec": spec})
        lines: list[int] = []
        try:
            parse(text, "f.yaml")
        except InvalidFile as error:
            lines = [mistake.line for mistake in error.mistakes]
        assert all(5 <= line <= len(text.splitlines()) for line in lines)
