"""One Job per database owner, which brings its database to what the wanted image needs before new pods start.

A Job cannot be changed, so its name carries what makes another run necessary: the image, and the database itself. It is
kept until another takes its place, or an edit makes it anew (renewing.py), and its completion is read from it.
"""

from chatbot_resource.configuration import SECRET_FILES
from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import auth, conversation, network, postgres, reads, services, stores
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.images import image
from chatbot_operator.components.metadata import digest, manifest
from chatbot_operator.components.pods import pod, template
from chatbot_operator.components.reads import Read
from chatbot_operator.components.services import Program
from chatbot_operator.kinds import DISK
from chatbot_operator.names import Owner
from chatbot_operator.world import Manifest

ATTEMPTS = 6
"""With Kubernetes' growing pauses between them: about ten minutes."""
PATIENCE_SECONDS = 10
"""That an attempt waits for its database: why it failed is told by its end, and Kubernetes makes the next."""
DEADLINE_SECONDS = 3600
GRACE_SECONDS = 30


def part(owner: Owner) -> str:
    """Component label of the Job and its pods."""
    return f"{owner}-db"


def needs(bot: ChatbotDeployment, owner: Owner) -> tuple[Read, ...]:
    """Only what the settings do not load without: what else is missing holds up no database."""
    own = auth.reads(bot) if owner == "auth" else conversation.reads(bot)
    return tuple(read for read in own if read.file in SECRET_FILES[owner] or read.folder == "authorities")


def name(context: Context, owner: Owner) -> str:
    authority = postgres.authority(context.bot, owner)
    brought = (read for read in reads.there(authority, context.observed) if read.watched)
    database = (postgres.address(context.bot, owner), *brought)
    told = [image(context, owner), reads.content(database, context.observed), *_disk(context)]
    return names.migration(context.bot.name, owner, digest(told))


def _disk(context: Context) -> list[str]:
    """A database on another disk than before is another one, and has no tables."""
    stateful_set = names.child(context.bot.name, "postgres")
    own = context.bot.spec.stores.postgres.mode == "Dev"
    live = context.observed.child(DISK, stores.disk(stateful_set)) if own else None
    return [live["metadata"]["uid"]] if live else []


def build(context: Context, owner: Owner, configs: Configs) -> list[Manifest]:
    """The Job, and the ConfigMap that it reads like the service itself."""
    own = reads.there(needs(context.bot, owner), context.observed)
    program = Program(part(owner), owner, "migrate", configs[owner], own)
    spec = {
        "backoffLimit": ATTEMPTS,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "template": template(
            context, program.part, reads.content(program.reads, context.observed), _pod(context, program)
        ),
    }
    job = manifest(context.bot, program.part, "Job", name(context, owner), {"spec": spec})
    return [program.config, *network.build(context, program.part), job]


def _pod(context: Context, program: Program) -> Manifest:
    running = services.program_container(context, program, args=["--wait", str(PATIENCE_SECONDS)])
    # Never: each attempt is a pod of its own, whose logs can be read.
    return pod([running], services.program_volumes(program), GRACE_SECONDS, restartPolicy="Never")
