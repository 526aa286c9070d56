"""Who is asked again after a failure, and when. Pure; chance comes in as a number."""

from collections.abc import Sequence
from typing import TypeVar

from chatbot_chat.providers.errors import ProviderError

ROUNDS = 3
FIRST_PAUSE_SECONDS = 0.2
ALONE_SECONDS = 10.0
"""The longest pause where nobody else can be asked."""
ACCOMPANIED_SECONDS = 0.5
"""The longest pause where a fallback could answer meanwhile."""

RouteT = TypeVar("RouteT")


def next_round(
    failed: Sequence[tuple[RouteT, ProviderError]], rounds: int, longest: float, chance: float
) -> tuple[float, list[RouteT]] | None:
    """The pause in seconds, and whom to ask then; None when it is over.

    Args:
        failed: who was asked in the last round, and how each failed.
        rounds: how many there were.
        longest: seconds that a pause may take.
        chance: 0 to 1, so that those who failed together do not come back together.
    """
    if rounds >= ROUNDS:
        return None
    pauses = [(_pause(error, rounds, chance), route) for route, error in failed if error.transient]
    soonest = min((pause for pause, _ in pauses), default=longest + 1)
    return None if soonest > longest else (soonest, [route for pause, route in pauses if pause <= soonest])


def _pause(error: ProviderError, rounds: int, chance: float) -> float:
    """Never before the provider asked for; else doubling with each round, and half of it by chance."""
    if error.retry_after is not None:
        return error.retry_after * (1 + chance / 10)
    return FIRST_PAUSE_SECONDS * 2.0 ** (rounds - 1) * (0.5 + chance / 2)
