"""A real API server keeps every rule of the table, as the models do, and shows people what they need."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.resource.cases import CASES, CHANGES, NAMES_RIGHT, NAMES_WRONG, POSTGRES, Case, Change, resource
from tests.resource.test_crd import root, schemas
from tests.support.apiserver import ApiServer, path

FOLDER = Path(__file__).parents[2] / "k8s" / "samples"
SAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if "kind: Namespace" not in path.read_text())
"""Those that go into any namespace."""
DRY_RUN = "dryRun=All&fieldValidation=Strict"


@pytest.fixture(scope="module")
def namespace(api_server: ApiServer) -> str:
    return api_server.namespace()


def refusal(api_server: ApiServer, namespace: str, body: dict[str, Any]) -> str:
    """What the API server says against a resource; empty when it would take it."""
    try:
        api_server.request("POST", f"{path('ChatbotDeployment', namespace)}?{DRY_RUN}", body)
    except httpx2.HTTPStatusError as error:
        return str(error) if error.response.status_code in (400, 422) else f"{error.response.status_code}: {error}"
    return ""


class TestRules:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
    def test_kept(self, api_server: ApiServer, namespace: str, case: Case) -> None:
        assert refusal(api_server, namespace, resource(case.right)) == ""
        assert case.says in refusal(api_server, namespace, resource(case.wrong))

    @pytest.mark.parametrize("name", NAMES_RIGHT)
    def test_a_name_is_taken(self, api_server: ApiServer, namespace: str, name: str) -> None:
        assert refusal(api_server, namespace, resource({}, name)) == ""

    @pytest.mark.parametrize("name", NAMES_WRONG)
    def test_a_name_is_refused(self, api_server: ApiServer, namespace: str, name: str) -> None:
        assert "starting with a letter" in refusal(api_server, namespace, resource({}, name))

    def test_apply_names_an_unknown_field(self, api_server: ApiServer, namespace: str) -> None:
        with pytest.raises(httpx2.HTTPStatusError, match=r"\.spec\.limits\.perMinut: field not declared"):
            api_server.apply(resource({"limits": {"perMinut": 3}}), namespace)


POSTGRES_MODES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"stores": {"postgres": POSTGRES}}),
    ({"stores": {"postgres": {}}}, {"stores": {"postgres": POSTGRES}}),
    ({}, {"stores": {"postgres": {"mode": "CloudNativePG"}}}),
    ({"stores": {"postgres": POSTGRES}}, {"stores": {"postgres": {"mode": "Dev"}}}),
    ({"stores": {"postgres": POSTGRES}}, {"stores": {}}),
    ({"stores": {"postgres": POSTGRES}}, {}),
]


def change(api_server: ApiServer, before: dict[str, Any], after: dict[str, Any] | None) -> dict[str, Any]:
    """What the API server would make of a resource that is replaced."""
    namespace = api_server.namespace()
    made = api_server.create(resource(before), namespace)
    changed = {key: value for key, value in made.items() if key != "spec"} | ({} if after is None else {"spec": after})
    return api_server.request("PUT", f"{path('ChatbotDeployment', namespace, 'demo')}?{DRY_RUN}", changed)


class TestChanges:
    @pytest.mark.parametrize("modes", [("Active", "Active"), ("Hibernated", "Active"), ("Active", "Hibernated")])
    @pytest.mark.parametrize(("before", "after"), POSTGRES_MODES)
    def test_the_mode_of_postgres_stays(
        self, api_server: ApiServer, modes: tuple[str, str], before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        with pytest.raises(httpx2.HTTPStatusError, match=r"stores.postgres.mode changes only while mode is Hibernated"):
            change(api_server, before | {"mode": modes[0]}, after | {"mode": modes[1]})

    @pytest.mark.parametrize(("before", "after"), POSTGRES_MODES)
    def test_unless_the_bot_hibernates_and_goes_on_to(
        self, api_server: ApiServer, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        asleep = {"mode": "Hibernated"}
        assert change(api_server, before | asleep, after | asleep)["spec"]["mode"] == "Hibernated"

    def test_nor_is_it_changed_by_leaving_all_out(self, api_server: ApiServer) -> None:
        with pytest.raises(httpx2.HTTPStatusError, match=r"stores.postgres.mode changes only while mode is Hibernated"):
            change(api_server, {"stores": {"postgres": POSTGRES}}, None)

    def test_waking_needs_no_other_mode(self, api_server: ApiServer) -> None:
        spec = {"stores": {"postgres": POSTGRES}}
        assert change(api_server, spec | {"mode": "Hibernated"}, spec | {"mode": "Active"})["spec"]["mode"] == "Active"

    @pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.rule)
    def test_kept(self, api_server: ApiServer, case: Change) -> None:
        assert change(api_server, case.before, case.right)
        with pytest.raises(httpx2.HTTPStatusError, match=case.says):
            change(api_server, case.before, case.wrong)

    @pytest.mark.parametrize(
        "after", [{"profile": "Dev"}, {"stores": {"postgres": {"mode": "Dev"}, "vectors": {"type": "PGVector"}}}]
    )
    def test_the_rest_may_change(self, api_server: ApiServer, after: dict[str, Any]) -> None:
        namespace = api_server.namespace()
        api_server.create(resource({}), namespace)
        assert api_server.apply(resource(after), namespace)["metadata"]["generation"] == 2

    def test_status_is_written_apart_and_moves_no_generation(self, api_server: ApiServer) -> None:
        namespace = api_server.namespace()
        api_server.create(resource({}), namespace)
        found = api_server.patch_status("ChatbotDeployment", namespace, "demo", {"phase": "Ready"})
        assert (found["status"], found["metadata"]["generation"]) == ({"phase": "Ready"}, 1)
        again = api_server.apply(resource({}) | {"status": {"phase": "Failed"}}, namespace)
        assert again["status"] == {"phase": "Ready"}


class TestEveryRule:
    """A rule that nothing breaks may be one that holds nobody; one that breaks what is right, too: see `test_kept`."""

    def test_has_a_case(self, api_server: ApiServer, namespace: str) -> None:
        wrong = [resource(case.wrong) for case in CASES] + [resource({}, name) for name in NAMES_WRONG]
        said = [refusal(api_server, namespace, body) for body in wrong]
        said += [refused_change(api_server, case) for case in CHANGES]
        without = {
            message: rules
            for message, rules in messages().items()
            # As many cases as there are rules that say the same.
            if sum(message in text for text in said) < len(rules)
        }
        assert without == {}


def messages() -> dict[str, set[str]]:
    """Every message of the definition, and the rules that have it."""
    found: dict[str, set[str]] = {}
    for _, schema in schemas(root()):
        for rule in schema.get("x-kubernetes-validations", ()):
            found.setdefault(rule["message"], set()).add(rule["rule"])
    return found


def refused_change(api_server: ApiServer, case: Change) -> str:
    with pytest.raises(httpx2.HTTPStatusError) as refused:
        change(api_server, case.before, case.wrong)
    return str(refused.value)


class TestDefaults:
    def test_an_empty_spec_says_its_profile_and_no_more(self, api_server: ApiServer, namespace: str) -> None:
        body = {key: value for key, value in resource({}).items() if key != "spec"}
        made = api_server.request("POST", f"{path('ChatbotDeployment', namespace)}?{DRY_RUN}", body)
        assert made["spec"] == {"profile": "Standard", "mode": "Active"}

    def test_what_is_written_is_completed(self, api_server: ApiServer, namespace: str) -> None:
        body = resource({"limits": {"perMinute": 5}, "components": {"chat": {}}})
        made = api_server.request("POST", f"{path('ChatbotDeployment', namespace)}?{DRY_RUN}", body)
        assert made["spec"]["limits"] == {"perMinute": 5, "perHour": 1000, "perDay": 10_000}
        assert made["spec"]["components"] == {"chat": {"drainSeconds": 120}}


class TestForPeople:
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.name)
    def test_every_sample_is_taken(self, api_server: ApiServer, namespace: str, sample: Path) -> None:
        api_server.kubectl("apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", str(sample))

    def test_explain_tells_what_a_field_is(self, api_server: ApiServer) -> None:
        said = api_server.kubectl("explain", "cbd.spec.components.chat.scaling")
        assert "with `HPA` Kubernetes's autoscaler chooses between two bounds" in " ".join(said.split())
        assert "maxReplicas" in said
        profile = api_server.kubectl("explain", "cbd.spec.profile")
        assert "ENUM: Dev Standard Production" in " ".join(profile.split())
        assert "What unset fields become" in profile

    def test_get_shows_the_columns(self, api_server: ApiServer) -> None:
        namespace = api_server.namespace()
        api_server.create(resource({}), namespace)
        api_server.patch_status("ChatbotDeployment", namespace, "demo", STATUS)
        head, row = api_server.kubectl("get", "cbd", "-n", namespace, "-o", "wide").splitlines()
        assert head.split() == [
            "NAME", "AVAILABLE", "READY", "PHASE", "VERSION", "COMPONENTS", "URL", "REASON", "MODEL", "AGE"
        ]  # fmt: skip
        assert row.split()[:-1] == [
            "demo", "True", "False", "Progressing", "0.1.0", "3/4", "http://demo", "RollingOut", "retrieval"
        ]  # fmt: skip
        assert "REASON" not in api_server.kubectl("get", "chatbot", "-n", namespace)

    def test_the_category_all_has_it(self, api_server: ApiServer) -> None:
        found = json.loads(api_server.kubectl("api-resources", "--api-group=chatbot-operator.io", "-o", "json"))
        assert found["resources"][0]["categories"] == ["all", "chatbot"]


def _condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-11-21T00:00:00Z",
        "observedGeneration": 1,
    }


STATUS = {
    "phase": "Progressing",
    "conditions": [_condition("Available", "True", "Serving"), _condition("Ready", "False", "RollingOut")],
    "componentsReady": "3/4",
    "url": "http://demo",
    "model": "retrieval",
    "version": {"current": "0.1.0"},
}
