"""The command itself: its help, its flags in either place, and how fast it starts."""

import re
import subprocess
import sys

import pytest

from tests.cli.cluster.conftest import Plugin
from tests.operator.running import World

COMMANDS = ("explain", "plan", "status", "restart", "pause", "resume", "rotate-keys", "retry")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_kubectls_flags(plugin: Plugin, anywhere: Plugin, command: str) -> None:
    said = anywhere(command, "--help")
    text = re.sub(r"\s+", " ", said.out)
    assert said.code == 0
    assert f"kubectl chatbot {command} " in text
    for flag in ("--namespace", "--context", "--kubeconfig"):
        assert flag in text


def test_flags_may_stand_before_the_command(anywhere: Plugin, world: World) -> None:
    world.create_bot()
    assert "harbour" in anywhere("-n", world.namespace, "status").out


def test_the_namespace_of_the_context_is_the_default(anywhere: Plugin, world: World) -> None:
    assert "in namespace default" in anywhere("explain", "harbour").err


def test_it_starts_without_what_its_commands_need() -> None:
    code = "import sys, chatbot_cli.cluster.app; print([name for name in sys.modules if name.startswith('pydantic')])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"  # noqa: S603


def test_a_namespace_that_is_not_there_is_told(anywhere: Plugin) -> None:
    for command in (["status"], ["explain", "harbour"]):
        said = anywhere(*command, "-n", "nowhere")
        assert said.code == 1
        assert "There is no namespace nowhere." in said.err
        assert "kubectl chatbot status -A" in said.err
