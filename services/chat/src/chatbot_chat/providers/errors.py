"""How a provider fails, and what a failure means: for our client, for the next attempt, and for the provider's name.

Two questions are answered by the class: `transient`, whether asking the same deployment once more may help, and
`outage`, whether the provider itself is ill, which its breaker counts.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil, isfinite

import httpx2
from chatbot_common.errors import Problem


class ProviderError(Problem):
    """A provider did not answer as it should. The words are ours: the provider's may hold keys or addresses."""

    status, kind, title = 502, "provider-failed", "The model provider failed"
    transient = True
    outage = True

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        """`retry_after` is in seconds: sooner, the provider does not want to be asked; our client is told as well."""
        super().__init__(detail, headers={"Retry-After": str(ceil(retry_after))} if retry_after else None)
        self.retry_after = retry_after


class ProviderUnreachable(ProviderError):
    kind, title = "provider-unreachable", "The model provider cannot be reached"


class ProviderTimeout(ProviderError):
    """Not transient: who waits for an answer has waited long enough for this one."""

    status, kind, title = 504, "provider-timeout", "The model provider did not answer in time"
    transient = False


class ProviderRefused(ProviderError):
    """It is well, and will refuse the same again."""

    kind, title = "provider-refused", "The model provider refused the request"
    transient = False
    outage = False


class ProviderFiltered(ProviderRefused):
    """As Azure tells of a question; what it does not let a model say ends the answer with that reason."""

    status, kind, title = 400, "content-filter", "The model provider's filter does not let the question pass"


class ProviderUnsent(ProviderRefused):
    """It was not asked: what a client wants to tell it cannot be written."""

    status, kind, title = 400, "invalid-request", "The request is not valid"


class ProviderUnheld(ProviderRefused):
    """It cannot be held to what the client asks for. `field` is as OpenAI names it."""

    status, kind, title = 400, "unsupported-parameter", "The model does not take a parameter of the request"

    def __init__(self, who: str, field: str, advice: str) -> None:
        self._said = who, field, advice
        detail = f"{who} cannot be held to {field!r} here: {advice}."
        super().__init__(detail)
        self.errors = [{"pointer": f"/{field}", "detail": detail}]

    def named(self, names: Mapping[str, str]) -> "ProviderUnheld":
        """The same with the field's name in another API."""
        who, field, advice = self._said
        return ProviderUnheld(who, names.get(field, field), advice)


def unheld_field(words: str) -> str | None:
    """The field that `ProviderUnheld` tells in these: of a run's failure the words are kept."""
    found = re.search(r" cannot be held to '([^']+)' here: ", words)
    return found and found[1]


class ProviderOverloaded(ProviderError):
    """It is well, and wants to be asked later."""

    status, kind, title = 503, "provider-overloaded", "The model provider is busy"
    outage = False


class ProviderSpared(ProviderOverloaded):
    """It was not asked: all its places are taken, or it has failed too often."""

    transient = False


BUSY = (429, 529)
LONGEST_WAIT_SECONDS = 86_400.0
"""However long a provider wants to be left alone."""


def refusal(name: str, status: int, retry_after: float | None = None) -> ProviderError:
    """What a provider's error status means for our client: its 401 is about our key, not theirs."""
    if status in BUSY or (status == 503 and retry_after is not None):  # without a time, a 503 is said by a dead backend
        return ProviderOverloaded(f"Provider {name} answered {status}; try again later.", retry_after=retry_after)
    if status in (401, 403):
        return ProviderRefused(f"Provider {name} refused its API key ({status}); an administrator must mend it.")
    if status == 404:
        return ProviderRefused(f"Provider {name} does not know the configured model (404).")
    if 400 <= status < 500 and status not in (408, 409):
        return ProviderRefused(f"Provider {name} does not take the request ({status}).")
    return ProviderError(f"Provider {name} answered {status}.", retry_after=retry_after)


def no_answer(name: str) -> ProviderError:
    return ProviderError(f"Provider {name} sent something that is not an answer.")


def late(name: str, error: Exception) -> ProviderError:
    """A connection that does not come is another failure than an answer that does not: it may be asked for again."""
    connecting = isinstance(error.__cause__ or error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
    return unconnected(name) if connecting else unanswered(name)


def unconnected(name: str) -> ProviderError:
    return ProviderUnreachable(f"Provider {name} did not take a connection in time.")


def unanswered(name: str) -> ProviderError:
    return ProviderTimeout(f"Provider {name} did not answer in time.")


def unreachable(name: str) -> ProviderError:
    return ProviderUnreachable(f"Provider {name} cannot be reached, or the connection broke.")


def retry_after_of(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a response asks to wait: milliseconds as OpenAI sends them, else seconds or a date (RFC 9110)."""
    try:
        seconds = _wanted(headers.get("retry-after-ms"), headers.get("retry-after"), now or datetime.now(UTC))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0), LONGEST_WAIT_SECONDS) if seconds is not None and isfinite(seconds) else None


def _wanted(milliseconds: str | None, written: str | None, now: datetime) -> float | None:
    if milliseconds is not None:
        return float(milliseconds) / 1000
    if written is not None and written.replace(".", "", 1).isdecimal():
        return float(written)
    return (parsedate_to_datetime(written) - now).total_seconds() if written else None
