"""The dashboard of one bot: how it is now, what people get, what the models do, what it runs on."""

import json

from chatbot_resource.fields import seconds
from chatbot_resource.model import ChatbotDeployment

from chatbot_operator.components.alerts import objectives
from chatbot_operator.components.grafana import RANGE, RATE, Panel, Row, dashboard
from chatbot_operator.components.queries import FAILED, Series, failed_share, pool_share, quantile, rate, series, share

QUANTILES = (0.5, 0.95, 0.99)


def text(bot: ChatbotDeployment) -> str:
    """As JSON, as Grafana reads it from a file."""
    name, namespace = bot.name, bot.metadata.namespace
    of = series(bot)
    made = dashboard(
        f"chatbot {namespace}/{name}",
        f"Chatbot {name} ({namespace})",
        "Made by the operator; an edit is undone. Save a copy to change it.",
        [_now(bot, of), _people(of), _models(bot, of), _components(of), _stores(of)],
    )
    return json.dumps(made, separators=(",", ":")) + "\n"


def _now(bot: ChatbotDeployment, of: Series) -> Row:
    slo = bot.spec.slo
    allowed = float(objectives(bot)[0].budget)
    first = of("ai_first_token_seconds_bucket", component="chat")
    return Row(
        "Now",
        [
            Panel("Requests", [(rate(of.requests(), RATE), "")], "reqps", "stat"),
            Panel(
                "Failed requests",
                [(failed_share(of, RANGE), "")],
                "percentunit",
                "stat",
                f"Of the time shown. Promised: {slo.availability} % succeed.",
                allowed,
            ),
            Panel(
                "First token, 95th percentile",
                [(quantile(0.95, first, RANGE), "")],
                "s",
                "stat",
                f"Of the time shown. Promised: {slo.first_token_p95}.",
                seconds(slo.first_token_p95),
            ),
            Panel("Streams in flight", [(f"sum({of('chat_runs_in_flight')})", "")], "short", "stat"),
            Panel("Pods that answer", [(f"sum({of('up')})", "")], "short", "stat"),
            Panel("Phase", [(_phase(bot), "{{phase}}")], "short", "stat", "As the operator sees it.", None, _NAMED),
        ],
        across=6,
    )


_NAMED = [{"type": "special", "options": {"match": "null", "result": {"text": "operator not scraped"}}}]


def _phase(bot: ChatbotDeployment) -> str:
    mine = f'bot_namespace="{bot.metadata.namespace}",bot="{bot.name}"'
    return f"max by (phase) (chatbot_operator_resource_phase{{{mine}}})"


def _people(of: Series) -> Row:
    duration = of("http_request_duration_seconds_bucket", component="gateway", endpoint_not="(/api/v1)?/health.*")
    return Row(
        "What people get",
        [
            Panel("Requests by status", [(rate(of.requests(), RATE, "status"), "{{status}}")], "reqps", stacked=True),
            Panel("Failed requests", [(failed_share(of, RATE), "gateway")], "percentunit"),
            Panel(
                "Time to the last byte",
                [(quantile(part, duration, RATE), f"{part:.0%}") for part in QUANTILES],
                "s",
                about="Of all requests; an answer that streams takes as long as it is long.",
            ),
            Panel(
                "Slowest routes, 95th percentile",
                [(f"topk(5, {quantile(0.95, duration, RATE, 'endpoint')})", "{{endpoint}}")],
                "s",
            ),
            Panel(
                "Refused because of a limit",
                [
                    (rate(of("gateway_requests_limited_total"), RATE, "window"), "per {{window}}"),
                    (rate(of("chat_budgets_refused_total"), RATE, "budget"), "budget {{budget}}"),
                ],
                "reqps",
            ),
            Panel(
                "Answers by what became of them",
                [(rate(of("conversation_turns_total", state_not="started"), RATE, "state"), "{{state}}")],
                "ops",
                stacked=True,
            ),
        ],
    )


def _models(bot: ChatbotDeployment, of: Series) -> Row:
    first = of("ai_first_token_seconds_bucket", component="chat")
    whole = of("ai_response_time_seconds_bucket", component="chat")
    return Row(
        "Models",
        [
            Panel(
                "First token",
                [(quantile(part, first, RATE), f"{part:.0%}") for part in QUANTILES],
                "s",
                limit=seconds(bot.spec.slo.first_token_p95),
            ),
            Panel("First token, 95th percentile", [(quantile(0.95, first, RATE, "model"), "{{model}}")], "s"),
            Panel("Whole answer, 95th percentile", [(quantile(0.95, whole, RATE, "model"), "{{model}}")], "s"),
            Panel(
                "Requests to providers",
                [(rate(of("ai_requests_total"), RATE, "provider, status"), "{{provider}} {{status}}")],
                "reqps",
            ),
            Panel("Streams in flight", [(f"sum by (pod) ({of('chat_runs_in_flight')})", "{{pod}}")], stacked=True),
            Panel(
                "Tokens",
                [(rate(of("ai_tokens_used_total"), RATE, "model, kind"), "{{model}} {{kind}}")],
                "short",
                about="A second, as providers count them; nothing where they do not.",
            ),
            Panel(
                "Cost an hour",
                [(f"3600 * {rate(of('ai_cost_total'), RATE, 'model')}", "{{model}}")],
                "short",
                about="In the currency of the prices in the resource.",
                stacked=True,
            ),
            Panel(
                "Providers in trouble",
                [
                    (rate(of("ai_retries_total"), RATE, "provider"), "{{provider}} asked again"),
                    (rate(of("ai_fallbacks_total"), RATE, "model, fallback"), "{{fallback}} for {{model}}"),
                    (rate(of("ai_provider_spared_total"), RATE, "provider, reason"), "{{provider}} {{reason}}"),
                ],
                "ops",
            ),
            Panel(
                "Calls of tools",
                [(rate(of("chat_tool_calls_total"), RATE, "tool, status"), "{{tool}} {{status}}")],
                "ops",
            ),
        ],
    )


def _components(of: Series) -> Row:
    failed, served = (rate(of.served(**only), RATE, "component") for only in ({"status_like": FAILED}, {}))
    # What has never failed has no series of failures, and an empty graph looks broken.
    failing = f"({failed} or 0 * {served}) / {served}"
    return Row(
        "Components",
        [
            Panel("Replicas that answer", [(f"sum by (component) ({of('up')})", "{{component}}")]),
            Panel("Failed requests", [(failing, "{{component}}")], "percentunit"),
            Panel(
                "Not answered by a service",
                [(rate(of("gateway_upstream_errors_total"), RATE, "service, kind"), "{{service}} {{kind}}")],
                "reqps",
                about="As the gateway saw it.",
            ),
            Panel("CPU", [(rate(of("process_cpu_seconds_total"), RATE, "component"), "{{component}}")], "short"),
            Panel(
                "Memory, largest pod",
                [(f"max by (component) ({of('process_resident_memory_bytes')})", "{{component}}")],
                "bytes",
            ),
            Panel(
                "Background jobs",
                [
                    (
                        rate(of("conversation_jobs_total"), RATE, "exported_job, outcome"),
                        "{{exported_job}} {{outcome}}",
                    )
                ],
                "ops",
            ),
        ],
    )


def _stores(of: Series) -> Row:
    jobs = of("conversation_job_duration_seconds_bucket")
    unchecked = rate(of("gateway_limits_unchecked_total"), RATE)
    return Row(
        "Stores",
        [
            Panel(
                "Postgres: connections in use",
                [(f"sum by (component) ({of('db_connections_active')})", "{{component}}")],
            ),
            Panel(
                "Postgres: share of a pod's connections in use",
                [(pool_share(of), "{{component}}")],
                "percentunit",
                "timeseries",
                "Of the fullest pod.",
                0.9,
            ),
            Panel(
                "Redis: requests whose limits it did not check",
                [(share(unchecked, rate(of.requests(), RATE)), "gateway")],
                "percentunit",
                about="Redis did not answer the gateway.",
            ),
            Panel(
                "Vectors: time to index, 95th percentile",
                [(quantile(0.95, jobs, RATE, "exported_job"), "{{exported_job}}")],
                "s",
            ),
        ],
    )
