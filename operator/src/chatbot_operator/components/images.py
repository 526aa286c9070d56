"""Which image a part runs: the resource's own choice, else what the operator was told."""

from chatbot_resource.components import SERVICES, Service

from chatbot_operator.components.context import Context
from chatbot_operator.names import Store
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked


def image(context: Context, part: Service | Store) -> str:
    """A full image reference."""
    return str(getattr(context.bot.spec.images, part) or getattr(context.settings.images, part))


def unknown(context: Context) -> Blocked | None:
    """Why `spec.version` cannot be followed, see `Settings.at`."""
    lost = [service for service in SERVICES if not image(context, service)]
    if not lost:
        return None
    text = f"spec.version {context.bot.spec.version}: the operator knows one image of {', '.join(lost)} only."
    return Blocked(Reason.INVALID_SPEC, f"{text} Name the one to run in spec.images.{lost[0]}.")
