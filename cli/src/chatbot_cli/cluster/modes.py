"""`kubectl chatbot pause`, `resume`, `rotate-keys` and `retry`: one field each; the operator does the rest."""

from datetime import UTC, datetime
from typing import Literal

from chatbot_operator import names
from chatbot_resource.model import KIND

from chatbot_cli import screen
from chatbot_cli.cluster import operators, resources
from chatbot_cli.cluster.kubectl import Kubectl
from chatbot_cli.cluster.refusals import CHART
from chatbot_cli.cluster.resources import Bot
from chatbot_cli.errors import CliError

Mode = Literal["Active", "Paused"]


def pause(kubectl: Kubectl, name: str) -> None:
    """Raises `CliError`."""
    bot = resources.get(kubectl, name)
    again = f"let it go on: {kubectl.here(f'chatbot resume {bot.name}')}"
    if bot.mode == "Hibernated":
        raise CliError(f"{bot.name} hibernates; there is nothing to pause.", again.capitalize())
    changed = _set(kubectl, bot, "Paused")
    text = f"{bot.name} is paused: {_serves(bot)}, and while it is, the operator reports and changes nothing; {again}"
    screen.say("Paused" if changed else "As before", text)
    operators.warn(kubectl.within(bot.namespace), "Nothing is reported until one does.")


def resume(kubectl: Kubectl, name: str) -> None:
    """From a pause or from hibernation. Raises `CliError`."""
    bot = resources.get(kubectl, name)
    changed = _set(kubectl, bot, "Active")
    follow = kubectl.here(f"chatbot status {bot.name} --watch")
    text = "wakes up" if bot.mode == "Hibernated" else "is no longer paused"
    screen.say("Resumed" if changed else "As before", f"{bot.name} {text}; follow it: {follow}")
    operators.warn(kubectl.within(bot.namespace), "Nothing is done until one does.")


def rotate_keys(kubectl: Kubectl, name: str) -> None:
    """Raises `CliError`."""
    bot = resources.get(kubectl, name)
    _ask(kubectl, bot, names.ROTATE_KEYS)
    text = "is asked for new signing keys; the old ones stay valid for a while, so nobody is signed out"
    screen.say("Rotating", f"{bot.name} {text}")
    if bot.mode == "Paused":
        again = kubectl.here(f"chatbot resume {bot.name}")
        screen.warn("Later", f"it is paused, so they are made when it goes on: {again}")
    operators.warn(kubectl.within(bot.namespace), "They are made when one does.")


def retry(kubectl: Kubectl, name: str) -> None:
    """Raises `CliError`."""
    bot = resources.get(kubectl, name)
    given_up = (bot.status.get("version") or {}).get("rolledBack")
    if not given_up:
        raise CliError(
            f"Nothing of {bot.name} has been given up.",
            f"See what it waits for: {kubectl.here(f'chatbot explain {bot.name}')}",
        )
    if bot.mode != "Active":
        raise CliError(f"{bot.name} is {bot.mode}.", f"Let it go on: {kubectl.here(f'chatbot resume {bot.name}')}")
    _ask(kubectl, bot, names.RETRY)
    follow = kubectl.here(f"chatbot status {bot.name} --watch")
    text = f"{bot.name} is tried again as its resource says, in generation {bot.generation}; follow it: {follow}"
    screen.say("Retrying", text)
    operators.warn(kubectl.within(bot.namespace), "Nothing is tried until one does.")


def _ask(kubectl: Kubectl, bot: Bot, annotation: str) -> None:
    """By a text that is new each time."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    kubectl.within(bot.namespace).patch(KIND, bot.name, {"metadata": {"annotations": {annotation: when}}})


def _serves(bot: Bot) -> str:
    """Whether it does, as the operator last saw it."""
    available = bot.condition("Available")
    if available is None:
        return "no operator has looked at it yet"
    if available.true:
        return "it serves, and goes on as it is"
    return f"it does not serve ({available.reason}: {available.message.rstrip('.')})"


def _set(kubectl: Kubectl, bot: Bot, mode: Mode) -> bool:
    """Whether it was another mode. Raises `CliError` where the cluster's definition has no modes."""
    if bot.mode == mode:
        return False
    changed = Bot(kubectl.within(bot.namespace).patch(KIND, bot.name, {"spec": {"mode": mode}}))
    if changed.mode != mode:
        text = f"The definition of {KIND} in this cluster is older than this command: it has no spec.mode."
        raise CliError(text, f"Bring the operator up to date: {CHART}")
    return True
