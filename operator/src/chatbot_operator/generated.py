"""The generated Secrets of a resource as they are on the cluster: what is missing is made, what is due is rotated.

Both come before the plan, which is made of what they say.
"""

import structlog
from chatbot_resource.model import ChatbotDeployment

from chatbot_operator.cluster import Cluster
from chatbot_operator.components.context import Context
from chatbot_operator.faults import AlreadyExists, Refused
from chatbot_operator.progress import Progress
from chatbot_operator.rules import Rules
from chatbot_operator.settings import Settings
from chatbot_operator.world import Observed

log = structlog.get_logger("reconcile")


class GeneratedSecrets:
    def __init__(self, cluster: Cluster, rules: Rules, settings: Settings) -> None:
        self._cluster = cluster
        self._rules = rules
        self._settings = settings

    async def create(self, done: Progress, bot: ChatbotDeployment, observed: Observed) -> Observed:
        """Generated once. One that is there is never written over."""
        for manifest in self._rules.missing_secrets(bot, observed):
            name = manifest["metadata"]["name"]
            try:
                done.written.append(await self._cluster.create(manifest))
                done.writes += 1
                done.secrets.add(name)
            except AlreadyExists as error:
                done.refused = True
                log.warning("Secret exists without our labels", secret=name, error=str(error))
            except Refused as refused:
                done.no_secrets = done.refusal("Secret", name, refused)
                if done.unnoticed:
                    break
        return done.seen(observed)

    async def rotate(self, done: Progress, bot: ChatbotDeployment, observed: Observed, now: str) -> Observed:
        """One step of a rotation that is due; who reads the Secret is rolled by what it says then."""
        rotation = self._rules.rotate(Context(bot, observed, self._settings), now)
        if rotation.again is not None:
            done.soon(rotation.again)
        done.no_secrets = done.no_secrets or rotation.blocked
        if rotation.patch is None:
            return observed
        metadata = rotation.patch["metadata"]
        try:
            written = await self._cluster.patch("Secret", metadata["namespace"], metadata["name"], rotation.patch)
        except Refused as refused:
            done.no_secrets = done.refusal("Secret", metadata["name"], refused)
            return observed
        done.writes += 1
        log.info("rotated", secret=metadata["name"])
        done.written.append(written)
        return done.seen(observed)
