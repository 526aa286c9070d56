"""What an apply would change of one object: a live one as the API server gives it against what is wanted."""

from typing import Any

from chatbot_cli.cluster.comparing import going, pair, shown, text


def live(spec: dict[str, Any], owned: dict[str, Any], kind: str = "Deployment") -> dict[str, Any]:
    fields = {"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": {"f:spec": owned}}
    metadata = {"name": "a", "namespace": "team", "uid": "1", "resourceVersion": "7", "managedFields": [fields]}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {"replicas": 1}}


def wanted(spec: dict[str, Any], kind: str = "Deployment") -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a", "namespace": "team"}, "spec": spec}


class TestPair:
    def test_what_others_own_and_what_the_server_adds_is_left_out(self) -> None:
        before, after = pair(live({"a": 1, "default": 2}, {"f:a": {}}), wanted({"a": 1}))
        assert before == after

    def test_what_we_applied_and_no_longer_want_goes(self) -> None:
        before, after = pair(live({"a": 1, "b": {"c": 1, "d": 2}}, {"f:b": {"f:c": {}}}), wanted({"a": 1}))
        assert before["spec"] == {"a": 1, "b": {"c": 1}}
        assert after["spec"] == {"a": 1}

    def test_replicas_that_an_autoscaler_takes_over_stay(self) -> None:
        before, after = pair(live({"replicas": 3, "a": 1}, {"f:replicas": {}}), wanted({"a": 1}))
        assert before == after

    def test_elements_of_a_list_are_told_apart_by_name(self) -> None:
        found = [{"name": "injected", "image": "x"}, {"name": "old", "image": "z"}, {"name": "chat", "image": "y"}]
        owned: dict[str, Any] = {"f:containers": {'k:{"name":"old"}': {"f:image": {}}}}
        before, _ = pair(live({"containers": found}, owned), wanted({"containers": [{"name": "chat", "image": "y"}]}))
        assert before["spec"]["containers"] == [{"name": "chat", "image": "y"}, {"image": "z"}]

    def test_ports_are_told_apart_by_two_fields(self) -> None:
        ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
        owned: dict[str, Any] = {"f:ports": {'k:{"containerPort":8080,"protocol":"TCP"}': {"f:containerPort": {}}}}
        assert going(live({"ports": ports}, owned))["spec"] == {"ports": [{"containerPort": 8080}]}

    def test_the_same_amount_written_otherwise_is_no_change(self) -> None:
        before, after = pair(live({"cpu": "500m", "memory": "1Gi"}, {}), wanted({"cpu": "0.5", "memory": "1024Mi"}))
        assert before == after

    def test_what_is_empty_and_was_dropped_is_no_change(self) -> None:
        before, after = pair(live({"a": 1}, {}), wanted({"a": 1, "b": {}}))
        assert before == after


class TestShown:
    def test_values_of_secrets_are_hidden(self) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"key": "c2VjcmV0"}}
        assert shown(secret)["data"] == {"key": "(hidden)"}

    def test_bookkeeping_is_left_out(self) -> None:
        metadata = {
            "name": "a",
            "uid": "1",
            "annotations": {"chatbot-operator.io/applied-hash": "f00"},
            "ownerReferences": [{"kind": "ChatbotDeployment", "name": "demo", "uid": "2", "controller": True}],
        }
        found = shown({"kind": "Service", "metadata": metadata})["metadata"]
        assert found == {"name": "a", "ownerReferences": [{"kind": "ChatbotDeployment", "name": "demo"}]}


def test_texts_of_several_lines_are_blocks() -> None:
    assert (
        text({"data": {"settings.json": '{\n  "a": 1\n}\n'}})
        == 'data:\n  settings.json: |\n    {\n      "a": 1\n    }\n'
    )
