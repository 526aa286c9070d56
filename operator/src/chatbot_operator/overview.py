"""The dashboard of the operator itself, `charts/chatbot-operator/dashboard.json`; `make generate` writes it."""

import json
from pathlib import Path

from chatbot_operator.components.grafana import RATE, Panel, Row, dashboard, variable

JOB = 'job="$job"'


def overview() -> str:
    """As JSON. Which operator it shows, people choose."""
    job = variable("job", "label_values(chatbot_operator_build_info, job)", "Operator")
    about = "Made by the chart; an edit is undone. Save a copy to change it."
    made = dashboard("chatbot-operator", "Chatbot operator", about, [_now(), _work(), _chatbots(), _process()], [job])
    return json.dumps(made, indent=1) + "\n"


def _per_second(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate(chatbot_operator_{name}_total{{{JOB}{more}}}[{RATE}]))"


def _now() -> Row:
    phases = f'sum(chatbot_operator_resources{{{JOB},phase=~"Degraded|Failed"}}) or vector(0)'
    return Row(
        "Now",
        [
            Panel("Leaders", [(f"sum(chatbot_operator_leader{{{JOB}}})", "")], kind="stat"),
            Panel("Chatbots", [(f"sum(chatbot_operator_resources{{{JOB}}})", "")], kind="stat"),
            Panel("That need somebody", [(phases, "")], kind="stat", limit=1),
            Panel("Oldest in the queue", [(f"max(chatbot_operator_queue_oldest_seconds{{{JOB}}})", "")], "s", "stat"),
        ],
        across=4,
    )


def _work() -> Row:
    seconds = f"sum by (le) (rate(chatbot_operator_reconcile_seconds_bucket{{{JOB}}}[{RATE}]))"
    return Row(
        "Work",
        [
            Panel("Reconciles", [(_per_second("reconciles", "result"), "{{result}}")], "ops", stacked=True),
            Panel(
                "Time of a reconcile",
                [(f"histogram_quantile({part}, {seconds})", f"{part:.0%}") for part in (0.5, 0.95, 0.99)],
                "s",
            ),
            Panel("Errors", [(_per_second("errors", "reason"), "{{reason}}")], "ops"),
            Panel("Waiting", [(f"max(chatbot_operator_queue_depth{{{JOB}}})", "chatbots")]),
            Panel(
                "Requests to the API server",
                [(_per_second("api_requests", "verb, code"), "{{verb}} {{code}}")],
                "reqps",
            ),
            Panel(
                "Found by looking, not by events",
                [(_per_second("resync_differences", "job"), "differences"), (_per_second("resyncs", "job"), "looks")],
                "ops",
                about="Differences again and again: watches lose events.",
            ),
        ],
    )


def _chatbots() -> Row:
    bad = f'chatbot_operator_resource_phase{{{JOB},phase!~"Ready|Paused|Hibernated|Idle|Terminating"}}'
    return Row(
        "Chatbots",
        [
            Panel(
                "By phase",
                [(f"sum by (phase) (chatbot_operator_resources{{{JOB}}})", "{{phase}}")],
                stacked=True,
            ),
            Panel(
                "Not ready",
                [(f"sum by (bot_namespace, bot, phase) ({bad})", "{{bot_namespace}}/{{bot}} {{phase}}")],
            ),
            Panel("Fields taken back from others", [(_per_second("field_conflicts", "job"), "fields")], "ops"),
        ],
    )


def _process() -> Row:
    return Row(
        "Process",
        [
            Panel("CPU", [(f"rate(process_cpu_seconds_total{{{JOB}}}[{RATE}])", "{{pod}}")]),
            Panel("Memory", [(f"process_resident_memory_bytes{{{JOB}}}", "{{pod}}")], "bytes"),
            Panel("Versions", [(f"count by (version) (chatbot_operator_build_info{{{JOB}}})", "{{version}}")]),
        ],
    )


def main() -> None:
    """Write it below the current folder."""
    file = Path("charts/chatbot-operator/dashboard.json")
    file.write_text(overview(), encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
