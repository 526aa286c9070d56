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

    @property
    def hibernated(self) -> bool:
        """No pod is to run; all data is kept."""
        return self.bot.spec.mode == "Hibernated"
