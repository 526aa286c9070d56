"""Rules of a spec that span its fields, each in CEL for the API server and in Python for everybody else.

Each names the fields that it reads, so that it is judged also where others are broken, and never by a broken one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from chatbot_resource.budgets import WHOSE
from chatbot_resource.cel import Rule, value_or, written
from chatbot_resource.components import SERVICES

if TYPE_CHECKING:
    from chatbot_resource.model import Spec


@dataclass(frozen=True)
class Crossing:
    reads: frozenset[str]
    """Fields of the spec."""
    rule: Rule
    broken: "Callable[[Spec], bool]"


POSTGRES_MODE = value_or("stores.postgres.mode", "'Dev'")
_NOT_PRODUCTION = "!has(self.profile) || self.profile != 'Production'"
_PROMETHEUS = "(has(self.telemetry) && has(self.telemetry.prometheusURL))"
_COUNTS_COST = " || ".join(
    written(f"budgets.{whose}.{cost}") for whose in WHOSE for cost in ("costPerDay", "costPerMonth")
)
_DEV, _ENFORCE, _NONE = "'Dev'", "'Enforce'", "'None'"


def _asks_prometheus(service: str) -> str:
    """CEL: whether KEDA scales a service by its streams."""
    scaling = f"components.{service}.scaling"
    streams, mode = value_or(f"{scaling}.targets.inFlightStreams", "0"), value_or(f"{scaling}.mode", "''")
    return f"({mode} == 'KEDA' && {streams} > 0)"


def _needs_prometheus(spec: "Spec") -> bool:
    found = (getattr(spec.components, name).scaling for name in SERVICES)
    asking = any(scaling.mode == "KEDA" and scaling.targets.in_flight_streams for scaling in found)
    return asking and spec.telemetry.prometheus_url is None


CROSSING: tuple[Crossing, ...] = (
    Crossing(
        frozenset({"profile", "stores"}),
        Rule(
            f"{_NOT_PRODUCTION} || ({POSTGRES_MODE} != 'Dev' && {value_or('stores.redis.mode', _DEV)} != 'Dev')",
            "profile Production needs stores that are not of mode Dev, one copy on one disk: set stores.postgres.mode"
            " to CloudNativePG or External, and stores.redis.mode to External",
        ),
        lambda spec: spec.profile == "Production" and "Dev" in (spec.stores.postgres.mode, spec.stores.redis.mode),
    ),
    Crossing(
        frozenset({"profile", "network"}),
        Rule(
            f"{_NOT_PRODUCTION} || {value_or('network.policy', _ENFORCE)} != 'Off'",
            "profile Production needs network.policy Enforce: set it so, or leave it out",
        ),
        lambda spec: spec.profile == "Production" and spec.network.policy == "Off",
    ),
    Crossing(
        frozenset({"profile", "llm"}),
        Rule(
            f"{_NOT_PRODUCTION} || !has(self.llm) || !has(self.llm.providers)"
            " || self.llm.providers.all(provider, provider.type != 'Fake')",
            "profile Production needs providers that are not of type Fake, which only repeats the question: take it"
            " out of llm.providers",
        ),
        lambda spec: spec.profile == "Production" and any(one.type == "Fake" for one in spec.llm.providers),
    ),
    Crossing(
        frozenset({"components", "telemetry"}),
        Rule(
            f"{_PROMETHEUS} || !({' || '.join(map(_asks_prometheus, SERVICES))})",
            "targets.inFlightStreams with mode KEDA needs telemetry.prometheusURL: set it to the address of your"
            " Prometheus",
            ".telemetry",
        ),
        _needs_prometheus,
    ),
    Crossing(
        frozenset({"budgets", "llm"}),
        Rule(
            f"!({_COUNTS_COST}) || !has(self.llm) || !has(self.llm.models)"
            " || self.llm.models.all(model, has(model.prices))",
            "a budget of cost needs prices of every model in llm.models: set prices.input and prices.output, '0' for"
            " one that costs nothing",
            ".budgets",
        ),
        lambda spec: spec.budgets.counts_cost and any(model.prices is None for model in spec.llm.models),
    ),
    Crossing(
        frozenset({"moderation", "llm"}),
        Rule(
            f"{value_or('moderation.provider', _NONE)} != 'OpenAI' || (has(self.llm) && has(self.llm.providers)"
            " && self.llm.providers.exists(provider, provider.type == 'OpenAI'))",
            "moderation by OpenAI needs a provider of type OpenAI in llm.providers: add one, or set"
            " moderation.provider to Rules",
            ".moderation",
        ),
        lambda spec: spec.moderation.provider == "OpenAI" and all(one.type != "OpenAI" for one in spec.llm.providers),
    ),
)


def broken(spec: "Spec", but: frozenset[str] = frozenset()) -> Iterator[str]:
    """What each rule says that a spec breaks.

    Args:
        but: fields that nothing is known of, since they are broken themselves.
    """
    return (one.rule.message for one in CROSSING if not one.reads & but and one.broken(spec))


def with_crossing(error: ValidationError, data: Any, validate: "Callable[[Any], Spec]") -> ValidationError:
    """The same mistakes of fields, and besides them those between the fields that are right."""
    found = error.errors(include_url=False)
    wrong = frozenset(str(one["loc"][0]) for one in found if one["loc"])
    if not isinstance(data, Mapping):
        return error
    try:
        rest = validate({key: value for key, value in data.items() if key not in wrong})
    except ValidationError:
        return error
    made = [_again(one) for one in found]
    if said := list(broken(rest, wrong)):
        made.append({"type": "value_error", "loc": (), "input": data, "ctx": {"error": ValueError("\n".join(said))}})
    return ValidationError.from_exception_data(error.title, made)


def _again(one: Mapping[str, Any]) -> InitErrorDetails:
    return {"type": one["type"], "loc": one["loc"], "input": one["input"], "ctx": one.get("ctx", {})}
