"""Comparing what we want with what the API server has made of it."""

from typing import Any, ClassVar

import pytest
from chatbot_operator.drift import Item, differences, show
from chatbot_operator.managed import other_managers, owns, we_own, writers_of
from chatbot_operator.unchanging import changes

CHAT = {"containers": [{"name": "chat", "image": "chat:1"}]}


def paths(wanted: Any, live: Any) -> list[str]:
    return [show(path) for path in differences(wanted, live)]


class TestDifferences:
    def test_defaults_and_other_managers_fields_are_no_difference(self) -> None:
        live = {"containers": [{"name": "chat", "image": "chat:1", "terminationMessagePath": "/dev/log"}], "more": 1}
        assert paths(CHAT, live) == []

    def test_a_field_with_another_value_is_named(self) -> None:
        live = {"containers": [{"name": "chat", "image": "evil:1"}]}
        assert paths(CHAT, live) == ["containers[name=chat].image"]

    def test_a_missing_field_is_a_difference(self) -> None:
        assert paths({"spec": {"replicas": 2}}, {"spec": {}}) == ["spec.replicas"]

    def test_a_missing_element_is_a_difference(self) -> None:
        assert paths(CHAT, {"containers": []}) == ["containers[name=chat]"]

    def test_named_elements_are_found_in_any_order_and_others_are_left_alone(self) -> None:
        live = {"containers": [{"name": "sidecar", "image": "mesh:1"}, {"name": "chat", "image": "chat:1"}]}
        assert paths(CHAT, live) == []

    def test_a_selector_with_more_in_it_is_another_selector(self) -> None:
        wanted = {"spec": {"selector": {"app": "chat"}, "podSelector": {"matchLabels": {"app": "chat"}}}}
        live = {
            "spec": {"selector": {"app": "chat", "x": "y"}, "podSelector": {"matchLabels": {"app": "chat", "x": "y"}}}
        }
        assert paths(wanted, live) == ["spec.selector.x", "spec.podSelector.matchLabels.x"]

    def test_elements_without_a_name_go_by_position_and_number(self) -> None:
        wanted = {"sources": [{"secret": {"name": "a"}}, {"secret": {"name": "b"}}]}
        assert paths(wanted, wanted) == []
        assert paths(wanted, {"sources": list(reversed(wanted["sources"]))}) == [
            "sources[0].secret.name",
            "sources[1].secret.name",
        ]
        assert paths(wanted, {"sources": [*wanted["sources"], {"secret": {"name": "c"}}]}) == ["sources"]

    def test_a_volume_mounted_twice_is_told_apart_by_its_path(self) -> None:
        mounts = [{"name": "tmp", "mountPath": "/a"}, {"name": "tmp", "mountPath": "/b"}]
        assert paths({"volumeMounts": mounts}, {"volumeMounts": list(reversed(mounts))}) == []
        assert paths({"volumeMounts": mounts}, {"volumeMounts": mounts[:1]}) == ["volumeMounts[mountPath=/b]"]

    @pytest.mark.parametrize("empty", [{}, [], "", None])
    def test_what_is_empty_may_be_dropped(self, empty: Any) -> None:
        assert paths({"args": empty}, {}) == []

    @pytest.mark.parametrize("value", [False, 0])
    def test_but_no_and_nothing_are_values(self, value: Any) -> None:
        assert paths({"automount": value}, {}) == ["automount"]

    def test_what_is_not_paused_may_be_dropped_and_what_is_is_a_difference(self) -> None:
        assert paths({"spec": {"paused": False}}, {"spec": {}}) == []
        assert paths({"spec": {"paused": False}}, {"spec": {"paused": True}}) == ["spec.paused"]

    def test_a_map_in_place_of_a_list_is_a_difference(self) -> None:
        assert paths({"a": [1]}, {"a": {"b": 1}}) == ["a"]


class TestQuantities:
    @staticmethod
    def container(cpu: Any) -> dict[str, Any]:
        resources = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}
        return {"spec": {"containers": [{"name": "chat", "resources": resources}]}}

    @pytest.mark.parametrize(("wanted", "live"), [("1000m", "1"), ("0.25", "250m"), ("1024Mi", "1Gi"), ("1", 1)])
    def test_the_same_amount_may_be_written_in_another_way(self, wanted: str, live: Any) -> None:
        assert paths(self.container(wanted), self.container(live)) == []
        volume = {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": wanted}}]}}
        assert paths(volume, {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": live}}]}}) == []

    @pytest.mark.parametrize(("wanted", "live"), [("1000m", "2"), ("1", "1k"), ("1", "one"), ("1", None), ("1u", "1n")])
    def test_another_amount_is_a_difference(self, wanted: str, live: Any) -> None:
        found = paths(self.container(wanted), self.container(live))
        where = "spec.containers[name=chat].resources"
        assert found == [f"{where}.requests.cpu", f"{where}.limits.cpu"]

    def test_text_that_looks_like_an_amount_is_text(self) -> None:
        for wanted in ({"data": {"limits": "1000m"}}, {"data": {"requests": {"cpu": "1000m"}}}):
            live = {"data": {"limits": "1", "requests": {"cpu": "1"}}}
            assert paths(wanted, live)
        env = {"spec": {"env": [{"name": "A", "value": "1000m"}]}}
        assert paths(env, {"spec": {"env": [{"name": "A", "value": "1"}]}}) == ["spec.env[name=A].value"]


IMAGE = ("spec", "template", "spec", "containers", Item("name", "chat"), "image")


def entry(manager: str, fields: Any, time: str, operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "time": time, "fieldsV1": fields, **more}


def image_fields() -> dict[str, Any]:
    containers: dict[str, Any] = {"f:containers": {'k:{"name":"chat"}': {".": {}, "f:image": {}}}}
    return {"f:spec": {"f:template": {"f:spec": containers}}}


class TestManagers:
    def test_the_last_one_who_wrote_the_field_is_named_first(self) -> None:
        live = {
            "metadata": {
                "managedFields": [
                    entry("chatbot-operator", image_fields(), "2026-01-01T00:00:04Z", "Apply"),
                    entry("kubectl-edit", image_fields(), "2026-01-01T00:00:01Z"),
                    entry("kubectl-set", image_fields(), "2026-01-01T00:00:02Z"),
                    entry("kubectl-scale", {"f:spec": {"f:replicas": {}}}, "2026-01-01T00:00:03Z"),
                ]
            }
        }
        assert other_managers(live, IMAGE) == ["kubectl-set", "kubectl-edit"]

    def test_a_status_writer_is_nobody(self) -> None:
        fields: dict[str, Any] = {"f:status": {"f:replicas": {}}}
        live = {"metadata": {"managedFields": [entry("kcm", fields, "2026-01-01T00:00:01Z", subresource="status")]}}
        assert other_managers(live, ("status", "replicas")) == []

    def test_we_own_only_what_we_applied(self) -> None:
        fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
        ours = entry("chatbot-operator", fields, "2026-01-01T00:00:01Z", "Apply")
        assert we_own({"metadata": {"managedFields": [ours]}}, ("spec", "replicas"))
        assert not we_own({"metadata": {"managedFields": [ours]}}, ("spec", "paused"))
        assert not we_own({"metadata": {"managedFields": [ours | {"manager": "hpa"}]}}, ("spec", "replicas"))
        assert not we_own({"metadata": {}}, ("spec", "replicas"))

    def test_who_holds_a_list_as_a_whole_holds_what_is_in_it(self) -> None:
        assert owns({"f:spec": {"f:metrics": {}}}, ("spec", "metrics", 0, "type"))
        assert not owns({"f:spec": {"f:metrics": {}}}, ("spec", "other"))


class TestLists:
    """That the API server takes as one value: what others have put into their elements is no field beside ours."""

    WANTED: ClassVar[dict[str, Any]] = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "demo"},
        "spec": {"ingress": [{"ports": [{"port": 80}]}]},
    }

    @classmethod
    def live(cls, port: dict[str, Any], *managers: str) -> dict[str, Any]:
        fields: dict[str, Any] = {"f:spec": {"f:ingress": {}}}
        managed = [entry(name, fields, "2026-01-01T00:00:01Z") for name in managers]
        spec = {"ingress": [{"ports": [{"port": 80} | port]}]}
        return cls.WANTED | {"metadata": {"name": "demo", "managedFields": managed}, "spec": spec}

    def test_that_are_another_ones_now_are_named(self) -> None:
        live = self.live({"endPort": 65535}, "kubectl-edit")
        [moved] = changes(self.WANTED, live)
        assert show(moved) == "spec.ingress[0].ports"
        assert writers_of(live, [moved], hidden=False) == ["kubectl-edit"]

    def test_that_are_ours_too_are_not(self) -> None:
        """The API server's default is nobody's."""
        assert not changes(self.WANTED, self.live({"protocol": "TCP"}, "chatbot-operator"))
        assert not changes(self.WANTED, self.live({"protocol": "TCP"}, "gitops", "chatbot-operator"))

    def test_that_are_as_wanted_may_be_anybodys(self) -> None:
        assert not changes(self.WANTED, self.live({}, "kubectl-edit"))
