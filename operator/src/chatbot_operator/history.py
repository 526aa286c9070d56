"""What a status remembers of a resource: the version that serves, those before it, which migrations ended. Pure."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import version as installed

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import MigrationStatus, RolledBack, Settled, Status, VersionStatus

from chatbot_operator import names
from chatbot_operator.components import migrations, revisions
from chatbot_operator.components.metadata import component_of, generation
from chatbot_operator.readiness import job_state
from chatbot_operator.reasons import Reason
from chatbot_operator.settings import Settings
from chatbot_operator.world import Blocked, Manifest, Observed, Step

HISTORY = 5


@cache
def operator_version() -> str:
    return installed("chatbot-operator")


def given_up_finding(bot: ChatbotDeployment, given_up: RolledBack | None) -> Blocked | None:
    if given_up is None:
        return None
    text = f"Generation {given_up.generation} with version {given_up.version} was given up: {given_up.message}"
    again = f"kubectl chatbot retry {bot.name} -n {bot.metadata.namespace}"
    text += f" What ran before runs again ({given_up.revision}), with all else that the resource said then but for"
    text += f" {', '.join(revisions.KEPT)}. Once mended, try it again: {again}"
    return Blocked(Reason.ROLLED_BACK, text)


def versions(
    bot: ChatbotDeployment,
    settings: Settings,
    previous: Status | None,
    rolled_back: RolledBack | None,
    *,
    ready: bool,
    now: str,
) -> VersionStatus:
    history = previous.version.history if previous else []
    latest = Settled(version=settings.version, generation=generation(bot), at=now)
    if ready and (not history or (history[0].version, history[0].generation) != (latest.version, latest.generation)):
        history = [latest, *history][:HISTORY]
    return VersionStatus(
        current=_serving(settings, previous, ready=ready),
        target=rolled_back.version if rolled_back else settings.version,
        rolled_back=rolled_back,
        history=history,
    )


def _serving(settings: Settings, previous: Status | None, *, ready: bool) -> str:
    """The version in every pod; until that is settled, the one that was."""
    if ready:
        return settings.version
    return previous.version.current if previous else ""


def finished(steps: Iterable[Step], observed: Observed, previous: Status | None) -> list[MigrationStatus]:
    """The last completed Job of each owner, remembered when it is gone."""
    known = {item.owner: item for item in previous.migrations} if previous else {}
    for owner in names.OWNERS:
        jobs = [item for item in observed.children if _completed(item, migrations.part(owner))]
        if jobs:
            last = max(jobs, key=lambda job: str(job["status"]["completionTime"]))
            name, when = last["metadata"]["name"], last["status"]["completionTime"]
            known[owner] = MigrationStatus(owner=owner, job=name, completed_at=when)
    return [known[owner] for owner in names.OWNERS if owner in known]


def _completed(item: Manifest, part: str) -> bool:
    return (
        item["kind"] == "Job"
        and component_of(item) == part
        and job_state(item) == "complete"
        and "completionTime" in item["status"]
    )
