"""`kubectl chatbot plan` on a real API server: what it shows, what it refuses, and that it changes nothing."""

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from chatbot_operator.reconcile import Reconciler

from tests.cli.cluster.conftest import Plugin, converge
from tests.operator.running import BOT, SETTINGS, World

FAQS = {"name": "faqs", "key": "f.yaml"}
KEY = "sk-never-to-be-seen"


@pytest.fixture
def file(tmp_path: Path) -> "File":
    return File(tmp_path / "bot.yaml")


class File:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, spec: dict[str, Any], *beside: dict[str, Any]) -> str:
        head = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": BOT}}
        self.path.write_text(yaml.safe_dump_all([head | {"spec": spec}, *beside]), encoding="utf-8")
        return str(self.path)


@pytest.mark.usefixtures("kubelet", "operator")
class TestEdit:
    async def test_is_shown_and_not_made(
        self, plugin: Plugin, world: World, reconciler: Reconciler, file: File
    ) -> None:
        world.create_bot({"profile": "Dev"})
        await converge(world, reconciler)
        said = plugin("plan", "-f", file({"profile": "Dev"}))
        assert said.code == 0, said
        assert f"harbour in namespace {world.namespace}: nothing would change." in said.out
        assert "No pod is restarted." in said.out
        generation = world.bot()["metadata"]["generation"]
        resources = {"requests": {"cpu": "0.2"}}
        edited = {"profile": "Dev", "images": {"chat": "chat:9"}, "components": {"chat": {"resources": resources}}}
        said = plugin("plan", "-f", file(edited))
        assert said.code == 0, said
        lines = said.out.splitlines()
        assert "~ Deployment harbour-chat" in lines
        assert [line.strip() for line in lines if line.startswith(("+", "-"))] == [
            "-        image: chatbot-chat:0.1.0",
            "+        image: chat:9",
            "-            cpu: 100m",
            "+            cpu: '0.2'",
        ]
        assert "  chat  1 pod is replaced: image, resources" in said.out
        assert "1 to change, " in said.out
        assert lines[-1] == f"Nothing was changed. To do it: kubectl apply -f {file.path} -n {world.namespace}"
        assert world.bot()["metadata"]["generation"] == generation
        await reconciler(world.key)
        assert world.existing("Deployment", "harbour-chat")["status"]["readyReplicas"] == 1

    async def test_agrees_with_what_the_operator_then_does(
        self, plugin: Plugin, world: World, reconciler: Reconciler, file: File
    ) -> None:
        """Also about an edit of a referenced ConfigMap, which only the digests of both show."""
        faqs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faqs"}, "data": {"f.yaml": "[]"}}
        spec = {"profile": "Dev", "knowledge": {"faqRef": {"name": "faqs", "key": "f.yaml"}}}
        world.api.create(faqs, world.namespace)
        world.create_bot(spec)
        await converge(world, reconciler)
        assert "nothing would change" in plugin("plan", "-f", file(spec)).out
        edited = faqs | {"data": {"f.yaml": "- {question: 'Open?', answer: Always.}"}}
        said = plugin("plan", "--summary", "-f", file(spec, edited))
        assert "a Secret or ConfigMap it reads" in said.out, said
        assert [line for line in said.out.splitlines() if line.startswith("~")] == [
            "~ Deployment harbour-conversation",
            "~ Deployment harbour-conversation-worker",
        ]
        world.api.patch("ConfigMap", world.namespace, "faqs", {"data": edited["data"]})
        await converge(world, reconciler)
        assert "nothing would change" in plugin("plan", "-f", file(spec, edited)).out

    async def test_reads_the_faqs_that_are_in_the_cluster(
        self, plugin: Plugin, world: World, reconciler: Reconciler, file: File
    ) -> None:
        """Those of the file are checked with the file."""
        text = "- {question: 'Open?'}"
        faqs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faqs"}, "data": {"f.yaml": text}}
        world.api.create(faqs, world.namespace)
        world.create_bot({"profile": "Dev"})
        await converge(world, reconciler)
        said = plugin("plan", "--summary", "-f", file({"profile": "Dev", "knowledge": {"faqRef": FAQS}}))
        assert said.code == 0, said
        assert "InvalidFaqs: ConfigMap faqs, which spec.knowledge.faqRef names, key f.yaml, line 1" in said.out

    async def test_is_taken_from_standard_input_and_from_a_pipe(
        self, plugin: Plugin, world: World, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        world.create_bot({"profile": "Dev"})
        await converge(world, reconciler)
        bot = world.bot()
        bot["spec"]["limits"] = {"perMinute": 7}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(bot)))
        said = plugin("plan", "--summary", "-f", "-")
        assert "~ Deployment harbour-gateway" in said.out, said
        # As `<(…)` of a shell, which can be read once.
        pipe = tmp_path / "bot"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=(json.dumps(bot),))
        writer.start()
        said = plugin("plan", "--summary", "-f", str(pipe))
        writer.join()
        assert "~ Deployment harbour-gateway" in said.out, said


@pytest.mark.usefixtures("operator")
class TestNew:
    def test_shows_all_of_it_and_no_secret(self, plugin: Plugin, world: World, file: File) -> None:
        provider = {"name": "openai", "type": "OpenAI", "apiKeySecretRef": {"name": "openai", "key": "api-key"}}
        models = [{"name": "main", "deployments": [{"provider": "openai", "model": "gpt"}]}]
        spec = {"profile": "Dev", "llm": {"providers": [provider], "models": models, "default": "main"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"api-key": KEY}}
        said = plugin("plan", "-f", file(spec, secret))
        assert said.code == 0, said
        assert "+ Secret harbour-admin" in said.out
        assert "+  password: (hidden)" in said.out
        assert KEY not in said.out
        assert "All are new: postgres, redis, weaviate, conversation," in said.out
        assert f"harbour (new) in namespace {world.namespace}: " in said.out
        assert world.get("ChatbotDeployment", BOT) is None

    def test_shows_what_unset_fields_become(self, plugin: Plugin, file: File) -> None:
        scaling = {"mode": "Fixed", "replicas": 2}
        said = plugin("plan", "--summary", "-f", file({"components": {"auth": {"scaling": scaling}}}))
        resolved = said.out.partition("What unset fields become, profile Standard\n")[2].partition("\n\n")[0]
        rows = {line.split()[0]: " ".join(line.split()[1:]) for line in resolved.splitlines()}
        assert rows["chat"] == "3 to 10, cpu 70 % 250m 512Mi (1Gi) 120 s"
        assert rows["auth"] == "2 250m 512Mi (1Gi) 120 s"

    def test_a_missing_secret_is_told(self, plugin: Plugin, world: World, file: File) -> None:
        external = {"mode": "External", "external": {"secretRef": {"name": "my-cache"}}}
        said = plugin("plan", "--summary", "-f", file({"profile": "Dev", "stores": {"redis": external}}))
        assert "SecretNotFound: Secret my-cache" in said.out
        assert "What it would do is not known before." in said.out


@pytest.mark.usefixtures("operator")
class TestWrong:
    def test_a_misspelt_field_is_told_with_its_line(self, plugin: Plugin, file: File) -> None:
        said = plugin("plan", "-f", file({"profil": "Dev"}))
        assert said.code == 2
        assert "bot.yaml:6: spec.profil: unknown field; did you mean profile?" in said.err

    def test_no_such_file(self, plugin: Plugin) -> None:
        said = plugin("plan", "-f", "nowhere.yaml")
        assert (said.code, said.err.splitlines()[0]) == (2, "Error: There is no file nowhere.yaml.")

    def test_what_only_the_api_server_can_know(self, plugin: Plugin, world: World, file: File) -> None:
        """A rule about the change from what is stored."""
        world.create_bot({"profile": "Dev"})
        external = {"authSecretRef": {"name": "auth-db"}, "conversationSecretRef": {"name": "conversation-db"}}
        edited = {"profile": "Dev", "stores": {"postgres": {"mode": "External", "external": external}}}
        said = plugin("plan", "-f", file(edited))
        assert said.code == 2, said
        assert "The API server refuses the resource:" in said.err
        assert "stores.postgres.mode" in said.err
        assert "Invalid value" not in said.err

    def test_another_namespace_than_the_files(self, plugin: Plugin, world: World, file: File) -> None:
        path = file({"profile": "Dev"})
        Path(path).write_text(Path(path).read_text().replace("name: harbour", "name: harbour\n  namespace: elsewhere"))
        said = plugin("plan", "-f", path)
        assert said.code == 2
        assert f"The file says namespace elsewhere, the command {world.namespace}." in said.err


class TestSettings:
    def test_are_read_from_a_file(self, plugin: Plugin, file: File, tmp_path: Path) -> None:
        settings = tmp_path / "settings.json"
        settings.write_text(SETTINGS.model_dump_json())
        said = plugin("plan", "--summary", "-f", file({"profile": "Dev"}), "--operator-settings", str(settings))
        assert said.code == 0, said

    def test_of_another_version_are_told(self, plugin: Plugin, file: File, tmp_path: Path) -> None:
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps(SETTINGS.model_dump(mode="json") | {"shiny": True}))
        said = plugin("plan", "-f", file({"profile": "Dev"}), "--operator-settings", str(settings))
        assert said.code == 1
        assert "shiny: Extra inputs are not permitted" in said.err

    def test_that_are_nowhere_can_be_named(self, plugin: Plugin, file: File) -> None:
        said = plugin("plan", "-f", file({"profile": "Dev"}))
        assert said.code == 1
        assert "No operator was found that watches namespace" in said.err
        assert "--operator-settings FILE" in said.err
