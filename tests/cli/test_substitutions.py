"""What a laptop does not use is said of each field that is written."""

from typing import Any

from chatbot_cli.calling import call
from chatbot_cli.substitutions import substitutions
from chatbot_resource.model import ChatbotDeployment


def rows(**spec: Any) -> dict[str, str]:
    bot = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": "demo"}}
    return dict(substitutions(ChatbotDeployment.model_validate(bot | {"spec": spec})))


def test_what_is_not_written_has_no_row() -> None:
    assert [asked.partition(" (")[0] for asked in rows()] == ["PostgreSQL", "Redis", "Vectors", "Replicas", "Exposure"]


def test_what_only_a_cluster_reads_is_named() -> None:
    redis = {"mode": "External", "external": {"topology": "Single", "secretRef": {"name": "redis"}}}
    said = rows(
        stores={"deletionPolicy": "Delete", "redis": redis},
        components={
            "gateway": {"drainSeconds": 200, "scaling": {"mode": "Fixed", "replicas": 2}},
            "chat": {"scaling": {"minReplicas": 3, "maxReplicas": 9}},
        },
    )
    assert said["Deletion (Delete)"] == f"data stays until: {call('down --purge')}"
    assert said["Redis topology (Single)"] == "one embedded Valkey"
    assert said["Drain (200 s)"] == "20 s at most"
    assert "Replicas (scaled by Fixed and HPA: gateway 2, chat 3..9)" in said
