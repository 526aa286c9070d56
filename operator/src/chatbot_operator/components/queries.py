"""PromQL over what the pods of one bot serve: what alerts and dashboards ask alike.

The PodMonitor gives every series the labels `namespace`, `bot` and `component`; all queries choose by them. Where a
service calls a label as Prometheus calls one of its own, Prometheus keeps it as `exported_NAME`.
"""

from dataclasses import dataclass
from itertools import pairwise

from chatbot_resource.model import ChatbotDeployment

HEALTH = "(/api/v1)?/health.*"
"""Answers 503 when something is away: for people to look at, and nobody's failed request."""
FAILED = "5.."

FIRST_TOKEN_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Of chat's histogram, seconds; tests/contract holds them to what chat has."""


@dataclass(frozen=True)
class Series:
    """The series of one bot."""

    namespace: str
    bot: str

    def __call__(self, name: str, **matchers: str) -> str:
        """A selector: `metric{namespace="team",bot="demo",le="1.0"}`. A label that ends in `_not` or `_like` is matched
        against a regular expression.
        """
        given = {"namespace": self.namespace, "bot": self.bot} | matchers
        return f"{name}{{{','.join(_matcher(label, value) for label, value in given.items())}}}"

    def requests(self, **matchers: str) -> str:
        """What came in by the gateway."""
        return self("http_requests_total", component="gateway", endpoint_not=HEALTH, **matchers)

    def served(self, **matchers: str) -> str:
        """What any component answered, the gateway's callees too."""
        return self("http_requests_total", endpoint_not=HEALTH, **matchers)


def series(bot: ChatbotDeployment) -> Series:
    return Series(bot.metadata.namespace, bot.name)


def rate(selector: str, window: str, by: str = "") -> str:
    """Per second, over all pods."""
    return f"sum{f' by ({by})' if by else ''} (rate({selector}[{window}]))"


def share(part: str, whole: str) -> str:
    """Of what there is. A part that has never been counted is none; without a whole there is no share."""
    return f"({part} or vector(0)) / {whole}"


def failed_share(of: Series, window: str) -> str:
    """Of the gateway's requests: its error ratio."""
    return share(rate(of.requests(status_like=FAILED), window), rate(of.requests(), window))


def slow_share(of: Series, seconds: float, window: str) -> str:
    """Of the models' answers: those that began later than `seconds`."""
    count = rate(of("ai_first_token_seconds_count", component="chat"), window)
    return f"1 - ({_within(of, seconds, window)}) / {count}"


def pool_share(of: Series) -> str:
    """Of the connections that a pod may have to Postgres, how many it uses; the worker is meant to use all of its."""
    active, most = (of(f"db_connections_{name}", component_like="auth|conversation") for name in ("active", "max"))
    return f"max by (component) ({active} / {most})"


def quantile(share: float, selector: str, window: str, by: str = "") -> str:
    """Of a histogram, whose `_bucket` the selector chooses."""
    return f"histogram_quantile({share}, {rate(selector, window, ', '.join(filter(None, ('le', by))))})"


def _within(of: Series, seconds: float, window: str) -> str:
    """Answers a second that begin in time: between two bounds of the histogram as many as lie on the line."""
    weights = [(bound, weight) for bound, weight in _weights(seconds) if weight]
    rates = [
        (rate(of("ai_first_token_seconds_bucket", component="chat", le=str(bound)), window), weight)
        for bound, weight in weights
    ]
    return " + ".join(text if weight == 1 else f"{weight:.4g} * {text}" for text, weight in rates)


def _weights(seconds: float) -> list[tuple[float, float]]:
    low, high = next(pair for pair in pairwise((0.0, *FIRST_TOKEN_BOUNDS)) if seconds <= pair[1])
    part = (seconds - low) / (high - low)
    return [(low, 1 - part if low else 0.0), (high, part)]


def _matcher(label: str, value: str) -> str:
    for end, sign in (("_not", "!~"), ("_like", "=~")):
        if label.endswith(end):
            return f'{label.removesuffix(end)}{sign}"{value}"'
    return f'{label}="{value}"'
