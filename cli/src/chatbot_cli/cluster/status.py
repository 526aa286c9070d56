"""`kubectl chatbot status`: a table of bots, or one bot and its parts."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from chatbot_resource.model import ChatbotDeployment
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from chatbot_cli.cluster import resources
from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.resources import Bot, Condition
from chatbot_cli.cluster.showing import headless, indented, table
from chatbot_cli.cluster.showing import show as display
from chatbot_cli.cluster.times import age
from chatbot_cli.errors import CliError
from chatbot_cli.screen import out, printable

WATCH_SECONDS = 2.0
MAKE = "kubectl apply -f k8s/samples/minimal.yaml"
STATES = {"True": "green", "False": "yellow"}
STORES = (("postgres", "PostgresReady"), ("redis", "CacheReady"), ("vectors", "VectorStoreReady"))
"""Parts of `spec.stores` and the conditions that tell of them."""
STAGES = {
    "Asked": "  asked for now, and about to begin",
    "Publishing": "  one is under way: the new key is published, and signs within minutes",
    "Overlapping": "  the new key signs; the one before is valid for a while",
}
"""What a rotation of a Secret is at, as the status names it."""
ROTATES = {"Manual": "when its Secret is deleted", "ByOwner": "when you edit its Secret"}
"""Who changes a credential, as the status names it; of others it says when."""
ADMIN = "in the chatbot itself"
"""The account keeps its password when its Secret is deleted."""


def show(kubectl: Kubectl, name: str | None, *, everywhere: bool, watch: bool) -> None:
    """Once, or for ever until Ctrl-C. Raises `CliError`."""
    look = _looking(kubectl, name, everywhere=everywhere)
    if not watch:
        display(look())
    elif out.is_terminal:
        _live(look)
    else:
        _follow(look)


def _looking(kubectl: Kubectl, name: str | None, *, everywhere: bool) -> Callable[[], RenderableType]:
    if name is not None:
        return lambda: one(resources.get(kubectl, name), datetime.now(UTC))
    return lambda: every(resources.every(kubectl, everywhere=everywhere), datetime.now(UTC), everywhere=everywhere)


def _live(look: Callable[[], RenderableType]) -> None:
    with Live(look(), console=out, auto_refresh=False, vertical_overflow="crop") as screen:
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                screen.update(look(), refresh=True)
            except CliError as error:
                # A moment without an answer ends no watch.
                screen.update(Text(printable(error.message), "red"), refresh=True)


def _follow(look: Callable[[], RenderableType]) -> None:
    """For a pipe: again whenever it says something else."""
    last = ""
    while True:
        with out.capture() as captured:
            display(look())
        if (text := captured.get()) != last:
            out.file.write(text)
            out.file.flush()
            last = text
        time.sleep(WATCH_SECONDS)


def every(bots: list[Bot], now: datetime, *, everywhere: bool) -> RenderableType:
    if not bots:
        return Text.assemble("There is no chatbot here. Make one: ", (MAKE, "cyan"))
    where = ["namespace"] if everywhere else []
    made = table(*where, "name", "serves", "ready", "phase", "version", "components", "age", last="reason")
    for bot in bots:
        made.add_row(*([bot.namespace] if everywhere else []), *_row(bot, now))
    return made


def _row(bot: Bot, now: datetime) -> Iterator[RenderableType]:
    status, ready = bot.status, bot.condition("Ready")
    yield Text(bot.name, "bold")
    yield _yes(bot.condition("Available"))
    yield _yes(ready)
    yield str(status.get("phase") or "")
    yield str((status.get("version") or {}).get("current") or "")
    yield str(status.get("componentsReady") or "")
    yield age(bot.created, now)
    yield Text(_reason(bot, ready), "dim" if bot.ready else "")


def _reason(bot: Bot, ready: Condition | None) -> str:
    if bot.deleted:
        return "is being deleted"
    if ready is None:
        return "no operator has looked at it yet"
    if not bot.current:
        return f"the operator has not seen generation {bot.generation} yet"
    return ready.reason


def _yes(condition: Condition | None) -> Text:
    if condition is None:
        return Text("?", "dim")
    return Text("yes" if condition.true else "no", STATES.get(condition.status, "dim"))


def one(bot: Bot, now: datetime) -> RenderableType:
    parts: list[RenderableType] = [_head(bot, now)]
    if bot.status:
        parts += [Text(), _components(bot), Text(), _conditions(bot, now)]
    if stores := _stores(bot):
        parts += [Text(), stores]
    if migrations := bot.status.get("migrations"):
        parts += [Text(), _migrations(migrations, now)]
    if rotated := bot.status.get("secrets"):
        parts += [Text(), _secrets(rotated, now)]
    return Group(*parts)


def _head(bot: Bot, now: datetime) -> RenderableType:
    status, version = bot.status, bot.status.get("version") or {}
    current, target = version.get("current") or "none yet", version.get("target")
    colour = "green" if bot.ready else "yellow" if bot.is_true("Available") else "red"
    phase = str(status.get("phase") or _reason(bot, None))
    rows = {
        "profile": f"{bot.spec.get('profile', '')}{'' if bot.mode == 'Active' else f', {bot.mode}'}",
        "version": f"{current}{f', becoming {target}' if target and target != current else ''}",
        "model": str(status.get("model") or ""),
        "url": str(status.get("url") or ""),
        "openai": str((status.get("endpoints") or {}).get("openai") or ""),
        "operator": str(status.get("operatorVersion") or ""),
    }
    made = headless(2)
    for name, value in rows.items():
        if value:
            made.add_row(f"[dim]{name}[/]", Text(printable(value)))
    stale = "" if bot.current or not bot.status else f"  {_reason(bot, bot.condition('Ready'))}"
    title = Text.assemble((bot.name, "bold"), (f"  in {bot.namespace}, {age(bot.created, now)} old  ", "dim"))
    return Group(Text.assemble(title, (phase, f"bold {colour}"), (stale, "yellow")), indented(made))


def _components(bot: Bot) -> RenderableType:
    numbers = ("desired", "ready", "new")
    made = table("component", *numbers, "image", right=numbers, last="reason")
    for item in bot.components:
        counts = [str(item.get(field, "")) for field in ("desired", "ready", "updated")]
        reason = str(item.get("reason") or "")
        name = Text(str(item.get("name")), "yellow" if reason else "green")
        made.add_row(name, *counts, Text(str(item.get("image") or "")), Text(printable(reason)))
    return made


def _conditions(bot: Bot, now: datetime) -> RenderableType:
    made = table("condition", "", "for", "reason", last="message")
    told = {str(item.get("reason")) for item in bot.components}
    for item in bot.conditions:
        said = f"{item.reason}: {item.message}"
        message = "as above" if said in told else printable(item.message)
        told.add(said)
        colour = ("green" if item.true else "dim") if item.well else "yellow"
        made.add_row(
            item.type,
            Text(item.status, colour),
            age(item.since, now),
            item.reason,
            Text(message, "dim" if item.well or message == "as above" else ""),
        )
    return made


def _stores(bot: Bot) -> RenderableType | None:
    if not bot.status:
        return None
    made = table("store", "kind", "state", last="where")
    for name, kind in STORES:
        told = bot.condition(kind)
        state = Text(told.reason, "green" if told.true else "yellow") if told else ""
        made.add_row(name, _kind(bot, name), state, _where(bot, name))
    return made


def _where(bot: Bot, store: str) -> Text:
    """An address, or the Secrets that hold it."""
    told = (bot.status.get("stores") or {}).get(store) or {}
    secrets = (told.get(key) for key in ("secret", "authSecret", "conversationSecret"))
    named = ", ".join(f"Secret {name}" for name in dict.fromkeys(secrets) if name)
    return Text(printable(str(told.get("address") or named)))


def _kind(bot: Bot, store: str) -> str:
    """Such as `Dev` or `Weaviate`, defaults included; as it is written in a resource of another version."""
    try:
        stores = ChatbotDeployment.model_validate(bot.raw, by_alias=True, by_name=False).spec.stores
        said = getattr(stores, store).model_dump(by_alias=True)
    except (ValidationError, AttributeError):
        said = (bot.spec.get("stores") or {}).get(store) or {}
    return ", ".join(str(said[key]) for key in ("type", "mode") if said.get(key))


def _migrations(found: list[Object], now: datetime) -> RenderableType:
    made = table("database", "migrated", "by")
    for item in found:
        made.add_row(str(item.get("owner")), _ago(item.get("completedAt"), now), f"Job {item.get('job')}")
    return made


def _secrets(found: list[Object], now: datetime) -> RenderableType:
    made = table("credential", "secret", "changed", last="next")
    for item in found:
        stage = STAGES.get(str(item.get("rotation") or ""), "")
        by = (ADMIN if item.get("purpose") == "admin" else ROTATES.get(str(item.get("rotates")), ""), "dim")
        following = Text.assemble(str(item.get("nextRotation") or ""), by, (stage, "yellow"))
        secret = printable(str(item.get("secret") or ""))
        made.add_row(printable(str(item.get("purpose"))), secret, _ago(item.get("rotatedAt"), now), following)
    return made


def _ago(when: object, now: datetime) -> str:
    passed = age(str(when or ""), now)
    return f"{passed} ago" if passed else ""
