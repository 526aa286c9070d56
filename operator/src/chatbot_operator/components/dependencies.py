"""What a resource asks of the cluster that not every cluster has: told alike by every condition that misses it."""

from collections.abc import Iterator
from dataclasses import dataclass

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import CLOUD_NATIVE_PG, OPTIONAL
from chatbot_operator.kinds import CUSTOM_METRICS
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked


@dataclass(frozen=True)
class Dependency:
    api: str
    """As in `Observed.apis`."""
    field: str
    """Of the resource, which asks for it."""


DO = {
    "HTTPRoute": "install the Gateway API's definitions",
    "ScaledObject": "install KEDA, or choose another mode; until then the number of pods stays as it is",
    **dict.fromkeys(CLOUD_NATIVE_PG, "install CloudNativePG, or choose another mode"),
    CUSTOM_METRICS: "install an adapter, such as prometheus-adapter; until then cpu alone counts",
}


def asked(bot: ChatbotDeployment) -> Iterator[Dependency]:
    """An API may be asked for by several fields."""
    if bot.spec.exposure.type == "HTTPRoute":
        yield Dependency("HTTPRoute", "spec.exposure.type")
    if bot.spec.stores.postgres.mode == "CloudNativePG":
        yield from (Dependency(kind, "spec.stores.postgres.mode") for kind in CLOUD_NATIVE_PG)
    for service in names.SERVICE_COMPONENTS:
        scaling, where = getattr(bot.spec.components, service).scaling, f"spec.components.{service}.scaling"
        if scaling.mode == "KEDA":
            yield Dependency("ScaledObject", f"{where}.mode")
        if scaling.mode in (None, "HPA") and scaling.targets.in_flight_streams:
            yield Dependency(CUSTOM_METRICS, f"{where}.targets.inFlightStreams")


def lacking(context: Context) -> list[Blocked]:
    """What is asked for and not there, each API once."""
    fields: dict[str, str] = {}
    for one in asked(context.bot):
        if one.api not in context.observed.apis:
            fields.setdefault(one.api, one.field)
    return [_told(api, field) for api, field in fields.items()]


def lacks(context: Context, api: str) -> Blocked | None:
    """One API that is asked for and not there."""
    if api in context.observed.apis:
        return None
    return next((_told(api, one.field) for one in asked(context.bot) if one.api == api), None)


def _told(api: str, field: str) -> Blocked:
    reason = Reason.CUSTOM_METRICS_UNAVAILABLE if api == CUSTOM_METRICS else Reason.API_NOT_INSTALLED
    named = f"{api} ({OPTIONAL[api].partition('/')[0]})" if api in OPTIONAL else api
    return Blocked(
        reason, f"The cluster has no {named}, which {field} asks for: {DO[api]}. Or the operator has no right to it."
    )
