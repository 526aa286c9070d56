"""What unset fields become, per profile, and that what is written wins."""

from typing import Any

import pytest
from chatbot_resource.components import SERVICES
from chatbot_resource.fields import amount
from chatbot_resource.model import ChatbotDeployment, Spec
from chatbot_resource.profiles import ResolvedScaling, resolve_resources, resolve_scaling
from hypothesis import given
from hypothesis import strategies as st

from tests.resource.cases import POSTGRES, REDIS, resource

EXTERNAL = {"stores": {"postgres": POSTGRES, "redis": REDIS}}
QUANTITIES = st.none() | st.sampled_from(
    ["1m", "100m", "250m", "0.5", "1", "4", "100", "64Mi", "512Mi", "1Gi", "2G", "1Ti"]
)


def spec(profile: str, **chat: Any) -> Spec:
    written = {"profile": profile, "components": {"chat": chat}} | EXTERNAL
    return ChatbotDeployment.model_validate(resource(written), by_alias=True, by_name=False).spec


class TestScaling:
    def test_dev_has_one_of_each_and_scales_chat(self) -> None:
        assert [resolve_scaling(spec("Dev"), name) for name in SERVICES] == [
            ResolvedScaling("Fixed", replicas=1),
            ResolvedScaling("Fixed", replicas=1),
            ResolvedScaling("HPA", min=1, max=3),
            ResolvedScaling("Fixed", replicas=1),
        ]

    @pytest.mark.parametrize("profile", ["Standard", "Production"])
    def test_the_others_scale_each(self, profile: str) -> None:
        assert {resolve_scaling(spec(profile), name) for name in SERVICES} == {ResolvedScaling("HPA", min=3, max=10)}

    @pytest.mark.parametrize(
        ("profile", "written", "resolved"),
        [
            ("Dev", {"mode": "Fixed", "replicas": 2}, ResolvedScaling("Fixed", replicas=2)),
            ("Standard", {"minReplicas": 5}, ResolvedScaling("HPA", min=5, max=10)),
            ("Standard", {"minReplicas": 20}, ResolvedScaling("HPA", min=20, max=20)),
            ("Standard", {"maxReplicas": 2}, ResolvedScaling("HPA", min=2, max=2)),
            ("Dev", {"maxReplicas": 9}, ResolvedScaling("HPA", min=1, max=9)),
            ("Standard", {"mode": "HPA", "minReplicas": 1, "maxReplicas": 2}, ResolvedScaling("HPA", min=1, max=2)),
        ],
    )
    def test_what_is_written_wins(self, profile: str, written: dict[str, Any], resolved: ResolvedScaling) -> None:
        assert resolve_scaling(spec(profile, scaling=written), "chat") == resolved

    @pytest.mark.parametrize("written", [{"mode": "HPA"}, {"minReplicas": 1}, {"maxReplicas": 3}])
    def test_bounds_or_mode_scale_what_dev_would_fix(self, written: dict[str, Any]) -> None:
        body = resource({"profile": "Dev", "components": {"gateway": {"scaling": written}}})
        given_spec = ChatbotDeployment.model_validate(body, by_alias=True, by_name=False).spec
        assert resolve_scaling(given_spec, "gateway") == ResolvedScaling("HPA", min=1, max=3)


class TestResources:
    def test_dev_fits_a_small_machine(self) -> None:
        found = [resolve_resources(spec("Dev"), name) for name in SERVICES]
        assert all(amount(item["requests"]["cpu"]) <= amount("100m") for item in found)
        assert all(amount(item["requests"]["memory"]) <= amount("256Mi") for item in found)
        assert {tuple(item["limits"].items()) for item in found} == {(("memory", "512Mi"),)}

    def test_the_others_ask_for_more(self) -> None:
        assert resolve_resources(spec("Standard"), "chat") == {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"memory": "1Gi"},
        }

    def test_what_is_written_wins_key_by_key(self) -> None:
        written = {"requests": {"memory": "2Gi"}, "limits": {"cpu": "100m"}}
        assert resolve_resources(spec("Standard", resources=written), "chat") == {
            "requests": {"cpu": "100m", "memory": "2Gi"},
            "limits": {"cpu": "100m", "memory": "2Gi"},
        }

    @given(st.sampled_from(["Dev", "Standard"]), QUANTITIES, QUANTITIES)
    def test_a_request_never_exceeds_its_limit(self, profile: str, request: str | None, limit: str | None) -> None:
        if request and limit and amount(request) > amount(limit):
            return
        written = {
            "requests": {"memory": request} if request else {},
            "limits": {"memory": limit} if limit else {},
        }
        found = resolve_resources(spec(profile, resources=written), "chat")
        assert amount(found["requests"]["memory"]) <= amount(found["limits"]["memory"])
        assert found["requests"]["memory"] == request or request is None
        assert found["limits"]["memory"] == limit or limit is None


@pytest.mark.parametrize(
    ("quantity", "value"), [("1", 1), ("250m", 0.25), ("1.5k", 1500), ("1Ki", 1024), ("512Mi", 2**29), ("2T", 2e12)]
)
def test_amounts(quantity: str, value: float) -> None:
    assert amount(quantity) == value
