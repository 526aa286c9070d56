"""What every builder is given."""

from dataclasses import dataclass

from chatbot_resource.model import ChatbotDeployment
from chatbot_resource.status import RolledBack

from chatbot_operator.names import Store
from chatbot_operator.settings import Settings
from chatbot_operator.world import Observed


@dataclass(frozen=True)
class Context:
    bot: ChatbotDeployment
    observed: Observed
    settings: Settings
    rolled_back: RolledBack | None = None
    """Why it is not what the resource says; see revisions.py."""

    former: bool = False
    """Of a Postgres that was the resource's before; see moving.py."""
    awake: bool = False
    """Whether that one is to run."""

    @property
    def moving(self) -> bool:
        """The data of Postgres is elsewhere, and is to be copied to where the resource says."""
        data = self.observed.data
        return data is not None and data.mode != self.bot.spec.stores.postgres.mode and not self.former

    @property
    def hibernated(self) -> bool:
        """No pod is to run; all data is kept."""
        return self.bot.spec.mode == "Hibernated" or self.moving

    def asleep(self, store: Store) -> bool:
        """Whether a store is to have no pod."""
        if self.former:
            return not self.awake
        return self.hibernated and not (self.moving and store == "postgres")
