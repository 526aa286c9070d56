"""Which image a part runs: the resource's own choice, else what the operator was told."""

from chatbot_resource.configuration import Service

from chatbot_operator.components.context import Context
from chatbot_operator.names import Store


def image(context: Context, part: Service | Store) -> str:
    """A full image reference."""
    return str(getattr(context.bot.spec.images, part) or getattr(context.settings.images, part))
