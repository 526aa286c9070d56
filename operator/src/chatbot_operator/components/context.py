"""What every builder is given."""

from dataclasses import dataclass

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator.settings import Settings
from chatbot_operator.world import Observed


@dataclass(frozen=True)
class Context:
    bot: ChatbotDeployment
    observed: Observed
    settings: Settings
