"""What reconcile.py is given to decide by: the pure part of the operator, as functions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import RolledBack, Status
from pydantic import ValidationError

from chatbot_operator.components.context import Context
from chatbot_operator.components.revisions import Effective
from chatbot_operator.components.rotation import Rotation
from chatbot_operator.settings import Settings
from chatbot_operator.world import Manifest, Name, Observed, Reference, Step


@dataclass(frozen=True)
class Rules:
    """See plan.py, status.py and left.py. A test of the mechanics brings its own."""

    references: Callable[[ChatbotDeployment], frozenset[Reference]]
    missing_secrets: Callable[[ChatbotDeployment, Observed], list[Manifest]]
    effective: Callable[[ChatbotDeployment, Observed, Status | None, Settings], Effective]
    plan: Callable[[ChatbotDeployment, Observed, Settings, RolledBack | None], list[Step]]
    wanted: Callable[[Iterable[Step], Observed], set[Name]]
    rotate: Callable[[Context, str], Rotation]
    status_of: Callable[
        [ChatbotDeployment, list[Step], Observed, Settings, Status | None, str, RolledBack | None], Status
    ]
    invalid: Callable[[Manifest, ValidationError, Iterable[Manifest], Settings, Status | None, str], Status]
    leaving: Callable[[Manifest, Iterable[Manifest], Status, str], Status]
