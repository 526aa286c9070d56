"""What autoscalers go by besides cpu: metrics of our services, and how a Prometheus is asked for them. Nowhere else.

They are found by the labels `namespace` and `pod`, as the Prometheus operator and adapters of it attach them.
"""

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names

STREAMS = "chat_runs_in_flight"
"""Gauge of each chat pod, without labels of its own: answers it is writing at the moment."""
REQUESTS = "http_requests_total"
"""Counter of each pod, by `method`, `endpoint` and `status`."""
UP = "up"
"""Prometheus's own, of each pod that it knows: 1 where the pod answered."""
WINDOW = "3m"
"""Longer than two scrapes of a Prometheus that scrapes once a minute, which is its default."""


def streams(bot: ChatbotDeployment) -> str:
    """PromQL: how many answers are being streamed in the whole bot."""
    return f"sum({STREAMS}{{{_pods(bot, 'chat')}}})"


def asked(bot: ChatbotDeployment) -> str:
    """PromQL: 1 if anybody has asked the gateway anything of late, or if nobody can know; else 0.

    Of a gateway that Prometheus does not scrape there are no series either, and what was taken away for that would
    never be woken. `max_over_time`: a pod that is replaced is away for a moment.

    Where no pod is that streams, the gateway alone knows that one is wanted: it has answered with 503. The first
    request of its kind begins a new series, which `increase` does not see.
    """
    series = f'{REQUESTS}{{{_pods(bot, "gateway")},endpoint=~"/(api/)?v1/.*"}}'
    counted = f"sum(increase({series}[{WINDOW}])) or vector(0)"
    begun = f"count({series} unless {series} offset {WINDOW}) or vector(0)"
    unseen = f"absent(max_over_time({UP}{{{_pods(bot, 'gateway')}}}[{WINDOW}]) == 1) or vector(0)"
    return f"(({counted}) + ({begun}) + ({unseen})) > bool 0"


def _pods(bot: ChatbotDeployment, part: names.Component) -> str:
    """Of one Deployment and no other, whatever the bots beside it are called. A name that is too long lacks a `-`."""
    name = f"{names.child(bot.name, part)}-[a-z0-9]+(-[a-z0-9]+)?"
    return f'namespace="{bot.metadata.namespace}",pod=~"{name}"'
