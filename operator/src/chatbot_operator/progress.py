"""What one reconcile has done so far: the parts of the sequence in reconcile.py add to it as they go."""

import time
from dataclasses import dataclass, field

import structlog

from chatbot_operator import tracing
from chatbot_operator.faults import Refused, Unnoticed
from chatbot_operator.fights import Taken
from chatbot_operator.kinds import DISK
from chatbot_operator.queue import Key
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Name, Observed

MAX_MESSAGE = 1000
UNNOTICED_SECONDS = 1.0
GOING = (
    "Namespace {0} is being deleted: nothing can be made in it any more. If that lasts, see what holds it: "
    "kubectl get namespace {0} -o yaml"
)
UNNOTICED = "is made once the API server's admission has noticed the new definition of its owner, within a minute."

log = structlog.get_logger("reconcile")


@dataclass
class Progress:
    key: Key
    writes: int = 0
    refused: bool = False
    unnoticed: bool = False
    """Nothing that the resource is to own can be made yet."""
    again: float | None = None
    """Seconds until something is to be done of which no event will tell, such as a rotation."""
    secrets: set[str] = field(default_factory=set)
    """Generated Secrets that were made."""
    no_secrets: Blocked | None = None
    """Why generated Secrets could not be made."""
    taken: list[Taken] = field(default_factory=list)
    written: list[Manifest] = field(default_factory=list)
    """Children as the API server answered with them, since they were last looked at."""
    gone: set[Name] = field(default_factory=set)
    """Children that were deleted since."""
    kept: dict[Name, Blocked] = field(default_factory=dict)
    """Children that are not wanted and could not be deleted."""
    began: int = field(default_factory=time.time_ns)
    parts: list[tracing.Part] = field(default_factory=list)

    @property
    def result(self) -> str:
        """As the metric of reconciles has it."""
        if self.refused:
            return "refused"
        return "changed" if self.writes else "unchanged"

    def seen(self, observed: Observed) -> Observed:
        """What is there now, without looking again."""
        found = observed.having(self.written, self.gone)
        self.written.clear()
        self.gone.clear()
        return found

    def soon(self, seconds: float) -> None:
        """Another look is due then at the latest."""
        self.again = min(seconds, self.again or seconds)

    def leaving(self) -> Blocked:
        """That the namespace goes; who asks again is refused again."""
        self.refused = True
        return Blocked(Reason.BEING_DELETED, GOING.format(self.key[0]))

    def refusal(self, kind: str, name: str, refused: Refused) -> Blocked:
        """Says so in the log, and in the status where the step is told by it. The others go on."""
        if isinstance(refused, Unnoticed):  # as after each installation: the log is told once, see reconcile.py
            self.refused = self.unnoticed = True
            self.soon(UNNOTICED_SECONDS)
            return Blocked(Reason.NOT_CREATED, f"{kind} {name} {UNNOTICED}")
        log.warning("refused", kind=kind, name=name, error=str(refused))
        self.refused = True
        reason = Reason.STORAGE_EXPANSION_UNSUPPORTED if kind == DISK else Reason.APPLY_REFUSED
        return Blocked(reason, f"{kind} {name}: {refused}"[:MAX_MESSAGE])
