"""What every builder is given."""

from dataclasses import dataclass

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import RolledBack

from chatbot_operator.settings import Settings
from chatbot_operator.world import Observed


@dataclass(frozen=True)
class Context:
    bot: ChatbotDeployment
    observed: Observed
    settings: Settings
    rolled_back: RolledBack | None = None
    """Why it is not what the resource says; see revisions.py."""

    @property
    def hibernated(self) -> bool:
        """No pod is to run; all data is kept."""
        return self.bot.spec.mode == "Hibernated"
