"""The page of conditions and reasons for people, `docs/reference/conditions.md`; `make generate` writes it."""

from collections.abc import Mapping
from pathlib import Path

from chatbot_resource.status import ConditionType

from chatbot_operator.reasons import table

CONDITIONS: Mapping[ConditionType, str] = {
    "Available": "gateway, auth, chat and conversation have at least one available pod each: traffic is served now",
    "Progressing": "something is being changed, and waiting is enough; False when all is done or a person is needed",
    "Ready": (
        "`Available`, and every Deployment runs what the present `generation` wants in every replica, and no step waits"
    ),
    "Degraded": "somebody has to do something; the reason is the one `Ready` has",
    "Paused": "`spec.mode` is Paused: nothing is changed",
    "SecretsReady": "every Secret and ConfigMap that is generated or referred to is there, with its keys",
    "PostgresReady": "our Postgres is ready; of yours: the Secrets with its addresses are there",
    "CacheReady": "our Valkey is ready; of yours: the Secret with its address is there",
    "VectorStoreReady": "our Weaviate is ready, or vectors are kept in Postgres and that is",
    "MigrationsComplete": "both databases have the tables that the wanted version needs",
    "AutoscalingReady": "every autoscaler of ours learns the load of its pods, or there is none",
    "RouteReady": (
        "a controller has taken up the Ingress or HTTPRoute, or there is to be none; `Ready` does not wait for it"
    ),
    "DependenciesDetected": (
        "the cluster has every optional API that the resource asks for (HTTPRoute, KEDA's ScaledObject, custom "
        "metrics), and has taken monitor, rules and dashboard where they are made; `Ready` does not wait for it"
    ),
}
"""True when …"""

_PAGE = """\
<!-- Made from chatbot_operator by `make generate`. Do not edit. -->

# Conditions of a ChatbotDeployment

`kubectl wait --for=condition=Ready cbd/NAME` waits for a bot, `kubectl describe cbd NAME` says what it waits for.
People read `phase`; programs read the conditions. `lastTransitionTime` moves only when `status` flips.

| Condition | True when |
| --- | --- |
{conditions}

What an autoscaler adds above its lower bound is not waited for: a bot that grows with its load stays `Ready`.

## Reasons

The set is closed. The message names the object. Reasons with something to do pass by no waiting alone. Where `Ready`
waits for what they tell of, they make `Progressing` False and `Degraded` True, the phase `Degraded` (while still
available) or `Failed`. What it does not wait for, such as an autoscaler, its own condition says, and
`kubectl chatbot explain`. Both are told once as an Event.

{reasons}
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = "\n".join(f"| `{kind}` | {meaning} |" for kind, meaning in CONDITIONS.items())
    return _PAGE.format(conditions=rows, reasons=table())


def main() -> None:
    """Write it below the current folder."""
    file = Path("docs/reference/conditions.md")
    file.write_text(page(), encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
