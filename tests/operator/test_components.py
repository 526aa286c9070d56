"""The objects that the operator writes: valid, restricted, and as the pictures beside the inputs show them."""

import os
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import kubernetes_validate
import pytest
import yaml
from chatbot_operator import names
from chatbot_operator.components import chat, secrets
from chatbot_operator.components.metadata import OPTIONAL, component_of
from chatbot_operator.world import Manifest, Observed, Reference
from chatbot_resource.model import ChatbotDeployment

from tests.operator.simulated import Cluster, Name, fixed_secrets, make_bot, name_of
from tests.operator.specs import BY_HAND, DEFAULTS, DEV, EXTERNAL, PRODUCTION, STANDARD
from tests.operator.test_moving import OURS, hibernated, moved, settled

DATA = Path(__file__).parent / "data"
KUBERNETES = "1.34"
COMPONENTS, STORES = get_args(names.Component), get_args(names.Store)


class Plain(yaml.SafeDumper):
    """Without references from one place to another."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


INPUTS = sorted(path for path in DATA.glob("*.yaml") if ".children" not in path.name)
REWRITE = "REWRITE_PICTURES"
"""Set in the environment: the pictures are painted anew, to be looked at in the diff."""


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_children_are_as_the_picture_shows(path: Path) -> None:
    """`data/NAME.yaml` is the input, `data/NAME.children.yaml` all that is made of it."""
    bot = ChatbotDeployment.model_validate(yaml.safe_load(path.read_text()))
    cluster = Cluster(bot, apis=frozenset(OPTIONAL))
    for secret in fixed_secrets(cluster.bot):
        cluster.children[name_of(secret)] = secret | {"metadata": secret["metadata"] | {"uid": "x", "generation": 1}}
    painted = yaml.dump_all(cluster.converge().manifests().values(), Dumper=Plain, sort_keys=False, width=120)
    picture = path.with_suffix(".children.yaml")
    if REWRITE in os.environ:
        picture.write_text(painted)
    assert painted == picture.read_text(), f"rewrite the pictures with {REWRITE}=1 and look at the difference"


@pytest.fixture(params=BY_HAND, scope="module")
def children(request: pytest.FixtureRequest) -> dict[Name, Manifest]:
    return Cluster(make_bot(BY_HAND[request.param])).converge().manifests()


def of(spec: dict[str, Any]) -> dict[Name, Manifest]:
    return Cluster(make_bot(spec)).converge().manifests()


def pods(children: dict[Name, Manifest]) -> Iterator[Manifest]:
    yield from (item["spec"]["template"]["spec"] for item in children.values() if "template" in item.get("spec", {}))


class TestEveryChild:
    def test_is_what_the_api_takes(self, children: dict[Name, Manifest]) -> None:
        for manifest in children.values():
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    def test_belongs_to_the_resource(self, children: dict[Name, Manifest]) -> None:
        for manifest in children.values():
            labels = manifest["metadata"]["labels"]
            assert labels[names.INSTANCE] == "demo"
            assert labels[names.MANAGED_BY] == names.FIELD_MANAGER
            assert manifest["metadata"]["namespace"] == "team"
            assert manifest["metadata"]["annotations"][names.APPLIED_HASH]

    def test_is_owned_unless_it_outlives(self, children: dict[Name, Manifest]) -> None:
        for manifest in children.values():
            owners = manifest["metadata"].get("ownerReferences")
            if manifest["kind"] != "Secret":
                assert owners is not None
                assert owners[0]["controller"]

    def test_has_a_name_that_fits(self) -> None:
        bot = make_bot({"profile": "Standard"}).model_copy(
            update={"metadata": make_bot().metadata.model_copy(update={"name": "a" * 40})}
        )
        for kind, name in Cluster(bot).converge().manifests():
            assert len(name) <= (63 if kind != "ConfigMap" else 253), kind


def workloads(cluster: Cluster) -> dict[str, Manifest]:
    """Each pod template, by its component."""
    found = (item for item in cluster.manifests().values() if "template" in item.get("spec", {}))
    return {component_of(item): item["spec"]["template"] for item in found}


class TestEveryPod:
    def test_is_restricted(self, children: dict[Name, Manifest]) -> None:
        for pod in pods(children):
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 10001
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }

    def test_hears_that_it_is_to_end_from_its_first_moment_on(self, children: dict[Name, Manifest]) -> None:
        """As process 1 it would not, while Python or a store is being loaded; seen as a pod that stayed for 75 s."""
        for pod in pods(children):
            assert pod["shareProcessNamespace"] is True
            assert len(pod["containers"]) == 1, "or they would see each other"

    def test_has_requests_limits_and_a_place_to_write(self, children: dict[Name, Manifest]) -> None:
        for pod in pods(children):
            for container in pod["containers"]:
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}
                assert container["resources"]["limits"]["memory"]
                assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108

    @pytest.mark.parametrize("moving", [False, True])
    def test_has_what_the_resource_gives_to_every_pod(self, moving: bool) -> None:
        cluster = settled() if moving else Cluster(make_bot(DEV))
        cluster.edit(defaults=DEFAULTS)
        cluster.converge()
        found = workloads(moved(hibernated(cluster), OURS) if moving else cluster)
        jobs = {f"{owner}-{'copy' if moving else 'db'}" for owner in names.OWNERS}
        assert found.keys() == {*COMPONENTS, *({*STORES} - {"weaviate"} if moving else STORES), *jobs}
        for part, template in found.items():
            metadata, pod = template["metadata"], template["spec"]
            assert DEFAULTS["podLabels"].items() <= metadata["labels"].items(), part
            assert DEFAULTS["podAnnotations"].items() <= metadata["annotations"].items(), part
            for field in ("nodeSelector", "tolerations", "affinity", "imagePullSecrets"):
                assert pod.get(field) == DEFAULTS[field], (part, field)
            [place] = pod.get("topologySpreadConstraints", ())
            assert DEFAULTS["topologySpread"][0].items() <= place.items(), part
            assert place["labelSelector"]["matchLabels"].items() <= metadata["labels"].items(), part
            [container] = pod["containers"]
            told = DEFAULTS["env"][0] in container.get("env", ())
            assert told is (part not in STORES), part

    def test_mounts_only_volumes_it_has(self, children: dict[Name, Manifest]) -> None:
        for item in children.values():
            if "template" not in item.get("spec", {}):
                continue
            pod = item["spec"]["template"]["spec"]
            claims = {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
            mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]} | claims

    def test_holds_no_secret_in_its_environment_or_manifest(self) -> None:
        cluster = Cluster(make_bot(STANDARD)).converge()
        text = yaml.safe_dump(list(cluster.manifests().values()))
        values = {
            (name, key): b64decode(value).decode()
            for (kind, name), item in cluster.children.items()
            if kind == "Secret"
            for key, value in item["data"].items()
        }
        told = {place for place, value in values.items() if value in text}
        public = {(f"demo-{name}-key", "public_key") for name in ("gateway", "auth", "chat", "conversation")}
        assert told == public | {("demo-admin", "email")}


class TestDeployments:
    def test_drain_before_they_are_killed(self) -> None:
        children = of(PRODUCTION)
        chat = children["Deployment", "demo-chat"]["spec"]["template"]["spec"]
        assert chat["terminationGracePeriodSeconds"] == 5 + 300 + 10
        assert chat["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}

    def test_leave_replicas_to_the_autoscaler(self) -> None:
        children = of(STANDARD)
        for name in ("gateway", "auth", "chat", "conversation"):
            assert "replicas" not in children["Deployment", f"demo-{name}"]["spec"]
            scaler = children["HorizontalPodAutoscaler", f"demo-{name}"]["spec"]
            assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
            assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70

    def test_have_the_number_that_is_fixed(self) -> None:
        children = of(PRODUCTION)
        assert children["Deployment", "demo-gateway"]["spec"]["replicas"] == 4
        assert ("HorizontalPodAutoscaler", "demo-gateway") not in children

    def test_of_a_small_machine_are_single_but_for_chat(self) -> None:
        children = of(DEV)
        for name in ("gateway", "auth", "conversation", "conversation-worker"):
            assert children["Deployment", f"demo-{name}"]["spec"]["replicas"] == 1
        assert children["HorizontalPodAutoscaler", "demo-chat"]["spec"]["maxReplicas"] == 3

    def test_run_the_image_the_resource_names(self) -> None:
        children = of(PRODUCTION)
        assert images(children["Deployment", "demo-chat"]) == [PRODUCTION["images"]["chat"]]
        assert images(children["Deployment", "demo-auth"]) == ["chatbot-auth:0.1.0"]

    def test_never_have_fewer_pods_while_they_roll(self) -> None:
        for (kind, _), item in of(STANDARD).items():
            if kind == "Deployment":
                assert item["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


class TestWorker:
    def test_shares_configuration_and_image_with_conversation(self) -> None:
        children = of(STANDARD)
        worker, service = (children["Deployment", f"demo-{name}"] for name in ("conversation-worker", "conversation"))
        assert images(worker) == images(service)
        assert config_of(worker) == config_of(service)
        assert worker["spec"]["replicas"] == 2
        command = worker["spec"]["template"]["spec"]["containers"][0]["command"]
        assert command == ["python", "-m", "chatbot_conversation", "worker"]

    def test_has_no_door(self) -> None:
        children = of(STANDARD)
        ports = children["Deployment", "demo-conversation-worker"]["spec"]["template"]["spec"]["containers"][0]["ports"]
        assert [port["name"] for port in ports] == ["private"]
        assert ("Service", "demo-conversation-worker") not in children
        assert ("PodDisruptionBudget", "demo-conversation-worker") in children


class TestConfiguration:
    def test_is_immutable_and_named_by_its_content(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        one = cluster.manifests()
        cluster.edit(limits={"perMinute": 5})
        other = cluster.manifests()
        before, after = (config_of(item["Deployment", "demo-gateway"]) for item in (one, other))
        assert before != after
        assert other["ConfigMap", after]["immutable"] is True
        assert config_of(one["Deployment", "demo-chat"]) == config_of(other["Deployment", "demo-chat"])


class TestStores:
    def test_that_users_bring_are_not_made(self) -> None:
        children = of({"stores": EXTERNAL})
        assert [name for kind, name in children if kind == "StatefulSet"] == ["demo-weaviate"]
        assert ("Secret", "demo-postgres") not in children

    def test_that_users_bring_are_checked_with_the_certificate_they_bring(self) -> None:
        """Where they bring none, the pods are as they were."""
        cluster = Cluster(make_bot(PRODUCTION))
        before = dict(cluster.converge().children)
        cluster.references[Reference("Secret", "auth-db", "ca.crt", optional=True)] = "digest"
        after = cluster.converge().children
        changed = {name for name, item in before.items() if name[0] == "Deployment" and after[name] != item}
        assert changed == {("Deployment", "demo-auth")}
        pod = after["Deployment", "demo-auth"]["spec"]["template"]["spec"]
        [folder] = [item for item in pod["volumes"] if item["name"] == "authorities"]
        [source] = folder["projected"]["sources"]
        assert source["secret"]["items"] == [{"key": "ca.crt", "path": "external.crt"}]
        told = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
        assert told["CHATBOT_DATABASE_AUTHORITY"] == "/etc/chatbot/authorities/external.crt"
        jobs = [name for kind, name in after if kind == "Job"]
        assert len(jobs) == 2, "the database is migrated by who can reach it"
        assert set(jobs) - {name for kind, name in before if kind == "Job"}

    def test_pgvector_needs_no_weaviate(self) -> None:
        assert [name for kind, name in of(PRODUCTION) if kind == "StatefulSet"] == []

    def test_keep_the_size_of_a_disk_that_exists(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        assert size(cluster.manifests()["StatefulSet", "demo-postgres"]) == "1Gi"
        cluster.edit(profile="Standard")
        assert size(cluster.manifests()["StatefulSet", "demo-postgres"]) == "1Gi"
        assert size(of({})["StatefulSet", "demo-postgres"]) == "10Gi"

    def test_weaviate_lets_nobody_in_without_the_key(self) -> None:
        container = of(DEV)["StatefulSet", "demo-weaviate"]["spec"]["template"]["spec"]["containers"][0]
        told = {item["name"]: item.get("value") for item in container["env"]}
        assert told["AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"] == "false"
        assert told["AUTHENTICATION_APIKEY_ENABLED"] == "true"
        assert told["AUTHENTICATION_APIKEY_ALLOWED_KEYS"] is None


class TestDeletionPolicy:
    KEPT = ("demo-postgres", "demo-redis", "demo-weaviate", "demo-admin")

    @pytest.mark.parametrize("policy", ["Retain", "Delete"])
    def test_decides_what_outlives_the_resource(self, policy: str) -> None:
        children = of(DEV | {"stores": {"deletionPolicy": policy}})
        self.check(children, policy)

    def test_can_be_changed(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        for policy in ("Delete", "Retain"):
            cluster.edit(stores={"deletionPolicy": policy})
            self.check(cluster.converge().children, policy)

    def check(self, children: dict[Name, Manifest], policy: str) -> None:
        owned = {name: "ownerReferences" in children["Secret", name]["metadata"] for name in self.KEPT}
        assert owned == dict.fromkeys(self.KEPT, policy == "Delete")
        assert "ownerReferences" in children["Secret", "demo-chat-key"]["metadata"]
        for store in ("postgres", "weaviate"):
            retention = children["StatefulSet", f"demo-{store}"]["spec"]["persistentVolumeClaimRetentionPolicy"]
            assert retention == {"whenDeleted": policy, "whenScaled": "Retain"}


class TestSecrets:
    def test_are_made_once(self) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.reconcile()
        made = {name: item["data"] for name, item in cluster.children.items() if name[0] == "Secret"}
        cluster.converge()
        assert {name: item["data"] for name, item in cluster.children.items() if name[0] == "Secret"} == made

    def test_differ_between_resources(self) -> None:
        one, other = (secrets.missing(make_bot(DEV), Observed()) for _ in range(2))
        for mine, theirs in zip(one, other, strict=True):
            assert mine["data"] != theirs["data"]

    def test_are_what_the_api_takes(self) -> None:
        for manifest in secrets.missing(make_bot(DEV), Observed()):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            assert manifest["metadata"]["labels"][names.INSTANCE] == "demo"

    def test_are_applied_to_the_very_object_that_was_seen(self) -> None:
        """A Secret that was deleted meanwhile must not come back empty."""
        for (kind, _), manifest in of(DEV).items():
            if kind == "Secret":
                assert manifest["metadata"]["uid"]
                assert "data" not in manifest


def images(workload: Manifest) -> list[str]:
    return [container["image"] for container in workload["spec"]["template"]["spec"]["containers"]]


def config_of(workload: Manifest) -> str:
    volumes = {item["name"]: item for item in workload["spec"]["template"]["spec"]["volumes"]}
    return str(volumes["config"]["configMap"]["name"])


def size(stateful_set: Manifest) -> str:
    return str(stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"])


def test_tokens_of_mcp_servers_are_files_beside_the_keys_of_models() -> None:
    servers = [
        {"name": "shop", "url": "http://shop:8000/mcp", "secretRef": {"name": "shop-token", "key": "token"}},
        {"name": "open", "url": "https://open.example/mcp"},
    ]
    reads = {read.file: read for read in chat.reads(make_bot({"tools": {"mcpServers": servers}}))}
    read = reads["mcp_tokens/shop"]
    assert read.reference == Reference("Secret", "shop-token", "token")
    assert read.origin == "spec.tools.mcpServers[shop].secretRef"
    assert "mcp_tokens/open" not in reads
