"""What a platform engineer's own tools are given of one bot: who scrapes it, when to wake somebody, what to look at.

Only where the cluster has the Prometheus operator; elsewhere there is nothing to be said about it.
"""

from chatbot_resource.model import Switch

from chatbot_operator import names
from chatbot_operator.components import alerts, dashboard
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import PLATFORM, manifest
from chatbot_operator.world import Manifest

PART = "monitoring"
MONITOR, RULE = "PodMonitor", "PrometheusRule"
GRAFANA = {"grafana_dashboard": "1"}
"""Label by which the sidecar of Grafana finds dashboards."""


def build(context: Context) -> list[Manifest]:
    told = context.bot.spec.telemetry
    made = []
    if _wanted(context, told.monitors, MONITOR):
        made.append(_monitor(context))
    # Pods that are meant to be away are nobody's alarm.
    if _wanted(context, told.rules, RULE) and not context.hibernated:
        made.append(_rule(context))
    # A dashboard of labels that nothing but the monitor gives.
    if _wanted(context, told.dashboards, MONITOR):
        made.append(_dashboard(context))
    return made


def _wanted(context: Context, switch: Switch, kind: str) -> bool:
    return switch == "Auto" and kind in context.observed.apis


def _monitor(context: Context) -> Manifest:
    """Scrapes every pod of the bot that has a port `private`: stores and migrations have none."""
    bot = context.bot
    endpoint = {
        "port": "private",
        "path": "/metrics",
        "relabelings": [
            _label(names.BOT, "bot"),
            _label(names.COMPONENT, "component"),
            # Prometheus would put the port's name here, in the place of the route that a request came in by.
            {"action": "labeldrop", "regex": "endpoint"},
        ],
    }
    spec = {
        "selector": {"matchLabels": {names.NAME: PLATFORM, names.BOT: bot.name}},
        "podMetricsEndpoints": [endpoint],
    }
    return manifest(bot, PART, MONITOR, bot.name, {"spec": spec}, more=context.settings.monitor_labels)


def _label(pod_label: str, name: str) -> Manifest:
    """A label of pods becomes one of their series."""
    source = "__meta_kubernetes_pod_label_" + "".join(letter if letter.isalnum() else "_" for letter in pod_label)
    return {"action": "replace", "sourceLabels": [source], "targetLabel": name}


def _rule(context: Context) -> Manifest:
    bot = context.bot
    monitored = _wanted(context, bot.spec.telemetry.monitors, MONITOR)
    body = {"spec": {"groups": alerts.groups(bot, monitored=monitored)}}
    return manifest(bot, PART, RULE, bot.name, body, more=context.settings.monitor_labels)


def _dashboard(context: Context) -> Manifest:
    bot = context.bot
    body = {"data": {f"{bot.metadata.namespace}-{bot.name}.json": dashboard.text(bot)}}
    return manifest(bot, PART, "ConfigMap", f"{bot.name}-dashboard", body, more=GRAFANA)
