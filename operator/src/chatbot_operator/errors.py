"""What can be wrong with a resource itself, in words for whoever wrote it."""

from chatbot_resource.lines import Document
from chatbot_resource.mistakes import explain
from chatbot_resource.model import ChatbotDeployment
from pydantic import ValidationError

from chatbot_operator.reasons import Reason
from chatbot_operator.world import Manifest

SHOWN = 5
"""Mistakes in one message."""


class InvalidSpec(Exception):
    """The resource passed the API server's rules and is wrong nevertheless: it cannot become settings."""

    reason = Reason.INVALID_SPEC

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        more = f" And {len(mistakes) - SHOWN} more." if len(mistakes) > SHOWN else ""
        super().__init__("; ".join(mistakes[:SHOWN]) + "." + more)


def invalid_spec(error: ValidationError, body: Manifest) -> InvalidSpec:
    """Pydantic's errors about a resource, each with its field; no value is quoted."""
    found = explain(error, Document(1, body), ChatbotDeployment)
    return InvalidSpec(sorted({str(mistake) for mistake in found}))


def understand(body: Manifest) -> ChatbotDeployment:
    """A resource as the API server gives it. Raises `InvalidSpec`."""
    try:
        return ChatbotDeployment.model_validate(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise invalid_spec(error, body) from None
