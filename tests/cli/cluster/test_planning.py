"""What an edit would do, on a cluster in memory: against what a reconcile then really does."""

from typing import Any

import pytest
from chatbot_cli.cluster.planning import Preview, preview
from chatbot_operator.world import Manifest, Name, Observed
from chatbot_resource.model import ChatbotDeployment

from tests.operator.running import SETTINGS
from tests.operator.simulated import UID, Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL, LLM, STANDARD
from tests.operator.test_plan import edited, migrating


def previewed(cluster: Cluster, edited: ChatbotDeployment | None = None) -> Preview:
    return preview(edited or cluster.bot, UID, cluster.observed, SETTINGS)


def verbs(found: Preview) -> dict[str, str]:
    return {f"{change.kind} {change.name}": change.verb for change in found.changes}


class TestPreview:
    def test_of_a_settled_bot_is_empty(self) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        found = previewed(cluster)
        assert (found.changes, found.restarts, found.waits) == ((), (), ())
        # ReplicaSets are not children of ours.
        assert found.unchanged == len(cluster.children)

    def test_of_a_new_bot_creates_all_of_it(self) -> None:
        found = preview(make_bot(DEV), UID, Observed((), (), Cluster(make_bot(DEV)).observed.references), SETTINGS)
        made = Cluster(make_bot(DEV)).converge().children
        # Names that hang on keys yet to be made are others each time, and say so.
        told = {(change.kind, change.name) for change in found.changes if "its name will be another" not in change.note}
        assert told == {name for name in made if name[0] not in ("ConfigMap", "Job", "ControllerRevision")}
        assert set(verbs(found).values()) == {"create"}
        assert {item.what for item in found.restarts} == {"started"}

    def test_a_new_image_changes_one_deployment(self) -> None:
        cluster = Cluster().converge()
        cluster.pod("chat", "demo-chat-1", {"phase": "Running"})
        cluster.edit(images={"chat": "chat:2"})
        found = previewed(cluster)
        assert verbs(found) == {"Deployment demo-chat": "change"}
        restart = found.restarts[0]
        assert (restart.part, restart.pods, restart.what, restart.why) == (
            "chat",
            ("demo-chat-1",),
            "replaced",
            ("image",),
        )

    def test_other_settings_replace_a_config_map_and_the_pods_that_read_it(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(limits={"perMinute": 7})
        found = previewed(cluster)
        assert sorted(verbs(found).values()) == ["change", "replace"]
        settings = next(change for change in found.changes if change.kind == "ConfigMap")
        assert settings.note.startswith("in place of demo-gateway-")
        assert '"per_minute": 60' in settings.before["data"]["settings.json"]
        assert '"per_minute": 7' in settings.after["data"]["settings.json"]
        assert [(item.part, item.why) for item in found.restarts] == [("gateway", ("settings",))]

    def test_a_job_that_is_made_anew_is_listed(self) -> None:
        """It has not begun, and the edit says something else of its pods."""
        cluster, job = migrating({"active": 0})
        name = job["metadata"]["name"]
        assert f"Job {name}" not in verbs(previewed(cluster))
        edited(cluster)
        found = previewed(cluster)
        [change] = [change for change in found.changes if change.name == name]
        assert (change.verb, change.note) == ("replace", "deleted, and made anew")
        assert change.after["spec"]["template"]["spec"]["tolerations"]
        cluster.reconcile()
        assert ("Job", name) not in cluster.children

    def test_faqs_that_cannot_be_read_are_told(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.bad_faqs = "line 1: not valid YAML"
        [wait] = previewed(cluster).waits
        assert (wait.part, wait.blocked.reason, wait.known) == ("conversation-worker", "InvalidFaqs", True)

    def test_another_promise_changes_rules_and_dashboard_in_place(self) -> None:
        cluster = Cluster(make_bot(STANDARD), apis=frozenset({"PodMonitor", "PrometheusRule"})).converge()
        cluster.edit(slo={"availability": "99.5"})
        found = previewed(cluster)
        changed = {name: verb for name, verb in verbs(found).items() if not name.startswith("ControllerRevision")}
        assert changed == {"PrometheusRule demo": "change", "ConfigMap demo-dashboard": "change"}
        dashboard = next(change for change in found.changes if change.kind == "ConfigMap")
        assert "99.9 %" in str(dashboard.before["data"])
        assert "99.5 %" in str(dashboard.after["data"])
        assert found.restarts == ()

    def test_what_is_no_longer_wanted_is_deleted_once_nobody_needs_it(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(stores={"redis": EXTERNAL["redis"]})
        deleted = {change.name: change.note for change in previewed(cluster).changes if change.verb == "delete"}
        assert deleted["demo-redis"] == "once no pod uses it"

    def test_a_secret_that_is_not_there_is_told_and_blocks_only_its_readers(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(llm=LLM)
        cluster.references = {item: None for item in cluster.observed.references if item.name == "openai"}
        found = previewed(cluster)
        wait = next(item for item in found.waits if item.part == "chat")
        assert (wait.blocked.reason, wait.known) == ("SecretNotFound", False)
        assert not [item for item in found.restarts if item.part == "chat"]

    def test_scaling_restarts_nothing(self) -> None:
        cluster = Cluster().converge()
        cluster.edit(components={"auth": {"scaling": {"mode": "Fixed", "replicas": 3}}})
        found = previewed(cluster)
        assert verbs(found) == {"Deployment demo-auth": "change"}
        assert [(item.what, item.why) for item in found.restarts] == [("scaled", ("from 1 to 3",))]

    def test_what_belongs_to_another_resource_is_not_touched(self) -> None:
        cluster = Cluster().converge()
        found = preview(cluster.bot, "another uid", cluster.observed, SETTINGS)
        assert not [change for change in found.changes if change.verb == "delete"]

    @pytest.mark.parametrize(
        ("edit", "later"),
        [
            ({"profile": "Standard"}, ()),
            ({"images": {"conversation": "c:2", "postgres": "p:2"}}, ()),
            # What old pods call stays open until they are replaced.
            ({"stores": {"vectors": {"type": "PGVector"}}}, ("demo-conversation", "demo-conversation-worker")),
            ({"llm": LLM}, ()),
        ],
    )
    def test_it_is_what_the_operator_then_does(self, edit: dict[str, Any], later: tuple[str, ...]) -> None:
        cluster = Cluster().converge()
        before = without_revisions(cluster)
        cluster.edit(**edit)
        found = previewed(cluster)
        cluster.converge()
        after = without_revisions(cluster)
        changed = {name for name, item in after.items() if name in before and spec(before[name]) != spec(item)}
        told = {
            verb: {(it.kind, it.name) for it in found.changes if it.verb == verb} for verb in set(verbs(found).values())
        }
        assert told.get("create", set()) | told.get("replace", set()) == set(after) - set(before)
        assert told.get("change", set()) == changed - {("NetworkPolicy", name) for name in later}
        gone = set(before) - set(after)
        assert told.get("delete", set()) >= {name for name in gone if name[0] not in ("ConfigMap", "Job")}

    def test_no_value_of_a_secret_is_in_it(self) -> None:
        cluster = Cluster().converge()
        values = {
            value for item in cluster.children.values() if item["kind"] == "Secret" for value in item["data"].values()
        }
        assert values
        found = repr(preview(make_bot(STANDARD), "another", cluster.observed, SETTINGS).changes)
        assert not [value for value in values if value in found]


def without_revisions(cluster: Cluster) -> dict[Name, Manifest]:
    """What was settled is noted when all is done; an edit does not make it."""
    return {name: item for name, item in cluster.children.items() if name[0] != "ControllerRevision"}


def spec(item: dict[str, Any]) -> Any:
    return {key: value for key, value in item.items() if key != "status"} | {
        "metadata": {key: value for key, value in item["metadata"].items() if key not in ("generation", "uid")}
    }
