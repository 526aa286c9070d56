"""`kubectl chatbot explain`: what a person should know of a bot now, the most important first. Pure but for `look`."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from chatbot_operator.reasons import AT_REST, REASONS, STUCK, Meaning, Reason

from chatbot_cli.cluster import happenings, operators, resources
from chatbot_cli.cluster.happenings import Happening
from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.operators import Operator
from chatbot_cli.cluster.resources import Bot, Condition
from chatbot_cli.cluster.times import age, parse, seconds_since, since

SUMS = ("Ready", "Available")
"""Conditions that only sum the others up."""
UNSEEN_SECONDS = 60.0
"""After so long nobody will look by himself: a look is due at once."""
UNSEEN = (
    "An operator that watches this namespace runs, and has not looked at it. In a namespace that was deleted and made "
    "anew it has lost its rights: helm upgrade with the same values gives them back. Else its log says why."
)


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be, once, however many conditions and components say it."""

    reason: str
    message: str
    since: str = ""
    where: tuple[str, ...] = ()
    """Conditions and components that say it."""

    @property
    def meaning(self) -> Meaning:
        """Empty for a reason of a newer operator."""
        return next((meaning for reason, meaning in REASONS.items() if reason == self.reason), Meaning(""))

    @property
    def stuck(self) -> bool:
        """Whether waiting alone does not help."""
        return self.reason in STUCK


@dataclass(frozen=True)
class Explanation:
    ready: bool
    serving: bool
    headline: str
    last_known: str
    """What would be the headline if an operator ran; empty while one does."""
    doubts: tuple[str, ...]
    """Why what follows may be out of date."""
    cause: Problem | None
    """What to look at first."""
    others: tuple[Problem, ...]
    components: str
    todo: tuple[str, ...]
    happenings: tuple[Happening, ...]


def look(kubectl: Kubectl, name: str) -> Explanation:
    """Raises `CliError`."""
    now = datetime.now(UTC)
    bot = resources.get(kubectl, name)
    with ThreadPoolExecutor() as pool:
        operator = pool.submit(operators.look, kubectl, now)
        told = pool.submit(happenings.recent, kubectl, bot, now)
    return explain(bot, operator.result(), told.result(), now, kubectl.here)


def explain(
    bot: Bot, operator: Operator, told: Iterable[Happening], now: datetime, here: Callable[[str], str]
) -> Explanation:
    """
    Args:
        told: recent Warning events.
        here: makes a kubectl command for this cluster and namespace.
    """
    # What hibernates is as somebody wished it; only what is wrong besides is worth a word.
    asleep = bot.mode == "Hibernated"
    problems = [problem for problem in _problems(bot) if problem.stuck or not asleep]
    # Of what is being deleted nothing else is worth a word.
    problems = [problem for problem in problems if problem.reason == Reason.BEING_DELETED] or problems
    first = bool(problems) and (problems[0].stuck or not bot.ready)
    cause, others = (problems[0], problems[1:]) if first else (None, problems)
    known = {problem.message for problem in problems}
    # That nobody has looked since outweighs whatever was seen then.
    alone = operator.running is False and not bot.deleted
    return Explanation(
        ready=bot.ready and not alone,
        serving=bot.is_true("Available") and not bot.deleted and not alone,
        headline=operator.text if alone else _headline(bot, cause, now),
        last_known=_last_known(bot, operator, cause, now) if alone else "",
        doubts=tuple(_doubts(bot, operator, now)),
        cause=cause,
        others=tuple(others),
        components="" if asleep else _components(bot),
        todo=tuple(_todo(bot, operator, cause, others, here, now)),
        happenings=tuple(item for item in told if item.message not in known),
    )


def _last_known(bot: Bot, operator: Operator, cause: Problem | None, now: datetime) -> str:
    """What held when an operator was last seen at work, or else when one last wrote that something is otherwise."""
    if bot.seen is None:
        return _headline(bot, cause, now)
    when = operator.seen or max((item.since for item in bot.conditions), default="")
    then = parse(when) or now
    ago = f"{age(when, now)} ago ({then.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
    return f"Last known, {ago}: {_headline(bot, cause, then)}"


def _headline(bot: Bot, cause: Problem | None, now: datetime) -> str:
    ready, available = bot.condition("Ready"), bot.condition("Available")
    if bot.deleted:
        return f"{bot.name} is being deleted, {since(bot.deleted, now)}."
    if ready and ready.reason == Reason.BEING_DELETED:
        return f"{bot.name} goes with its namespace, which is being deleted, {since(ready.since, now)}."
    if ready is None or available is None:
        made = f"{age(bot.created, now)} ago"
        return f"{bot.name} does not serve: no operator has looked at it since it was made, {made}."
    if bot.mode == "Hibernated":
        how = "is about to hibernate" if ready.reason == Reason.STOPPING else "hibernates: no pod runs"
        return f"{bot.name} {how}, and all data is kept."
    if ready.true:
        besides = (
            "but not all that its resource asks for is there" if cause else "and everything runs as its resource says"
        )
        text = f"is ready: it serves, {besides}"
        return (
            f"{bot.name} {text}, {since(ready.since, now)}."
            if bot.current
            else f"{bot.name} served when the operator last looked at it."
        )
    if not available.true:
        never = not (bot.status.get("version") or {}).get("current")
        yet = " yet" if never and not (cause and cause.stuck) else ""
        return f"{bot.name} does not serve{yet}, {since(available.since, now)}."
    changing = "but is not as its resource says while it is paused" if bot.mode == "Paused" else "and is being changed"
    how = "but something is wrong with it" if cause and cause.stuck else changing
    return f"{bot.name} serves, {how}, {since(ready.since, now)}."


def _doubts(bot: Bot, operator: Operator, now: datetime) -> list[str]:
    doubts = []
    if bot.seen is not None and not bot.current:
        doubts.append(
            f"The operator has not looked at its present form yet (generation {bot.generation}; it has seen "
            f"{bot.seen}). What follows is about the earlier one."
        )
    # What cannot be seen matters only where nothing else shows that somebody is at work.
    if operator.running is None and not bot.current:
        doubts.append(operator.text)
    return doubts


def _problems(bot: Bot) -> list[Problem]:
    """What keeps it from serving for as long as nobody does anything, then what else is stuck.

    Within that as the conditions have it, which is the order in which things are set up.
    """
    found: dict[tuple[str, str], Problem] = {}
    conditions = [item for item in bot.conditions if not item.well and item.type not in resources.ASIDE]
    for condition in sorted(conditions, key=lambda item: SUMS.index(item.type) if item.type in SUMS else len(SUMS)):
        _add(found, condition.reason, condition.message, condition.since, _place(condition))
    for component in bot.components:
        reason, _, message = str(component.get("reason") or "").partition(": ")
        if reason:
            _add(found, reason, message, "", (str(component.get("name")),))
    for problem in [one for one in found.values() if _is_sum(one, found.values())]:
        del found[problem.reason, problem.message]
    available = bot.condition("Available")
    down = None if available is None or available.well else (available.reason, available.message)
    return sorted(
        found.values(),
        key=lambda problem: (not (_lasts(problem) and (problem.reason, problem.message) == down), not problem.stuck),
    )


def _is_sum(problem: Problem, all_of_them: Iterable[Problem]) -> bool:
    """Whether it says in one what others say apart, as of all that a cluster lacks."""
    left = problem.message
    for other in all_of_them:
        left = left.replace(other.message, "") if other is not problem and other.message else left
    return bool(problem.message) and not left.strip()


def _lasts(problem: Problem) -> bool:
    return problem.stuck or problem.reason in AT_REST


def _place(condition: Condition) -> tuple[str, ...]:
    return () if condition.type in SUMS else (condition.type,)


def _add(found: dict[tuple[str, str], Problem], reason: str, message: str, since: str, where: tuple[str, ...]) -> None:
    known = found.get((reason, message), Problem(reason, message, since))
    found[reason, message] = Problem(reason, message, known.since or since, (*known.where, *where))


def _components(bot: Bot) -> str:
    """Such as `3 of 4 components are settled; not yet: chat (1 of 3 ready, 2 new).`"""
    waiting = [item for item in bot.components if item.get("reason")]
    if not waiting:
        return ""
    settled, _, total = str(bot.status.get("componentsReady") or "").partition("/")
    named = ", ".join(f"{_named(item)} ({_counts(item)})" for item in waiting)
    return f"{settled or 0} of {total or len(bot.components)} components are settled; not yet: {named}."


def _named(component: Object) -> str:
    """The worker is counted with conversation, whose part it is."""
    return str(component["name"]).replace("-worker", "'s worker")


def _counts(component: Object) -> str:
    ready, new, desired = (component.get(field, 0) for field in ("ready", "updated", "desired"))
    if not (ready or new or desired):
        return "no pods"
    return f"{ready} of {desired} ready, {new} new"


def _todo(
    bot: Bot,
    operator: Operator,
    cause: Problem | None,
    others: Iterable[Problem],
    here: Callable[[str], str],
    now: datetime,
) -> Iterable[str]:
    if bot.deleted:
        return
    if operator.running and bot.seen is None and (seconds_since(bot.created, now) or 0.0) > UNSEEN_SECONDS:
        yield UNSEEN
        return
    if operator.running is False:
        yield operator.todo
    if bot.mode == "Paused":
        yield f"It is paused: the operator changes nothing. Let it go on: {here(f'chatbot resume {bot.name}')}"
    if bot.mode == "Hibernated":
        yield f"Wake it: {here(f'chatbot resume {bot.name}')}"
    if cause and cause.reason == Reason.SCALED_TO_ZERO:
        yield f"Ask it something where KEDA scales it; else: {here('scale deployment NAME --replicas=1')}"
    known = [problem for problem in (cause, *others) if problem and problem.meaning.do]
    retry = here(f"chatbot retry {bot.name}")
    advice = {problem.reason: problem.meaning.do.replace("kubectl chatbot retry NAME", retry) for problem in known}
    yield from (f"{reason}: {do}" if len(advice) > 1 else do for reason, do in advice.items())
    asked_for = cause is not None and cause.reason in AT_REST
    if not bot.ready and not advice and not asked_for and operator.running is not False and bot.mode == "Active":
        yield f"Nothing: waiting is enough. See how it goes on: {here(f'chatbot status {bot.name} --watch')}"
