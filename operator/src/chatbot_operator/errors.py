"""What is wrong with a resource itself, in words for whoever wrote it."""

from chatbot_resource.lines import Document
from chatbot_resource.mistakes import explain
from chatbot_resource.model import ChatbotDeployment
from pydantic import ValidationError

from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest

SHOWN = 5
"""Mistakes in one message."""


def invalid_spec(error: ValidationError, body: Manifest) -> Blocked:
    """Pydantic's errors about a resource that passed the API server's rules, each with its field; no value is quoted.

    Args:
        body: the resource as the API server gives it.
    """
    mistakes = sorted({str(mistake) for mistake in explain(error, Document(1, body), ChatbotDeployment)})
    more = f" And {len(mistakes) - SHOWN} more." if len(mistakes) > SHOWN else ""
    return Blocked(Reason.INVALID_SPEC, "; ".join(mistakes[:SHOWN]) + "." + more)
