"""What a laptop puts in the place of what the resource asks of a cluster; shown, so that nobody wonders later."""

from chatbot_resource.model import ChatbotDeployment, Spec


def substitutions(bot: ChatbotDeployment) -> list[tuple[str, str]]:
    """Rows of: what the resource asks for, what runs here."""
    spec = bot.spec
    stores = spec.stores
    return [
        (f"PostgreSQL ({_mode(stores.postgres.mode)})", "embedded PostgreSQL on a socket"),
        (f"Redis ({_mode(stores.redis.mode)})", "embedded Valkey on a socket"),
        (f"Vectors ({stores.vectors.type})", "pgvector, inside PostgreSQL"),
        (f"Replicas ({_replicas(spec)})", "one process each, one worker"),
        (f"Exposure ({spec.exposure.type})", "127.0.0.1, this machine only"),
    ]


def _mode(mode: str) -> str:
    return "External" if mode == "External" else "in the cluster"


def _replicas(spec: Spec) -> str:
    modes = {getattr(spec.components, name).scaling.mode for name in ("gateway", "auth", "chat", "conversation")}
    return "scaled by " + " and ".join(sorted(modes)) if modes != {"Fixed"} else "Fixed"
