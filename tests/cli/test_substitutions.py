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
        version="0.2",
        slo={"availability": "99.5"},
        images={"chat": "example/chat:1", "redis": "example/valkey:9"},
        stores={"deletionPolicy": "Delete", "redis": redis},
        components={
            "gateway": {"drainSeconds": 200, "scaling": {"mode": "Fixed", "replicas": 2}},
            "chat": {"scaling": {"minReplicas": 3, "maxReplicas": 9}, "resources": {"limits": {"cpu": 2}}},
        },
    )
    assert said["Deletion (Delete)"] == f"data stays until: {call('down --purge')}"
    assert said["Redis topology (Single)"] == "one embedded Valkey"
    assert said["Drain (200 s)"] == "20 s at most"
    assert "Replicas (gateway 2, auth 3..10, chat 3..9, conversation 3..10)" in said
    assert said["Images (chat, redis)"] == "the code that is installed here"
    assert said["Version (0.2)"] == "the code that is installed here"
    assert said["Monitors, alerts, dashboard"] == "nothing is watched; each process serves /metrics"
    assert said["Resources (chat)"] == "whatever this machine has, without requests or limits"


def test_replicas_follow_the_profile() -> None:
    assert "Replicas (3..10 each)" in rows()
    assert "Replicas (gateway 1, auth 1, chat 1..3, conversation 1)" in rows(profile="Dev")
