"""Every pod there is, ours and each chatbot's, in a namespace that enforces the restricted Pod Security Standard."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.chart.helm import Helm
from tests.operator.simulated import Cluster, make_bot
from tests.operator.specs import BY_HAND
from tests.operator.test_moving import OURS, hibernated, jobs, moved, settled
from tests.support.apiserver import ApiServer, Object, path


@pytest.fixture(scope="module")
def restricted(api_server: ApiServer) -> str:
    name = api_server.namespace()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api_server.patch("Namespace", name, name, {"metadata": {"labels": labels}})
    return name


def admit(api_server: ApiServer, namespace: str, template: Object) -> None:
    """Have the API server judge a pod as its controller would make it."""
    metadata = template["metadata"] | {"generateName": "pod-"}
    spec = template["spec"] | {"serviceAccountName": "default"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    api_server.request("POST", f"{path('Pod', namespace)}?dryRun=All&fieldValidation=Strict", body)


def templates(objects: list[Object]) -> Iterator[Object]:
    for item in objects:
        found = item.get("spec", {}).get("template")
        if item["kind"] in ("Deployment", "StatefulSet", "Job") and found:
            yield _with_claims(item, found)


def _with_claims(item: Object, template: Object) -> Object:
    """A StatefulSet adds a volume for each of its claims."""
    claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    spec = template["spec"]
    return template | {
        "spec": spec | {"restartPolicy": "Never", "volumes": [*spec["volumes"], *volumes]},
    }


def converged(spec: dict[str, Any]) -> Cluster:
    return Cluster(make_bot(spec)).converge()


def copying() -> Cluster:
    """From one of our own to another one, while it hibernates."""
    return moved(hibernated(settled()), OURS)


BOTS = {**{name: partial(converged, spec) for name, spec in BY_HAND.items()}, "copying": copying}


@pytest.mark.parametrize("bot", BOTS)
def test_a_bots_pods(api_server: ApiServer, restricted: str, bot: str) -> None:
    cluster = BOTS[bot]()
    assert set(jobs(cluster)) == ({"auth-copy", "conversation-copy"} if bot == "copying" else set())
    found = list(templates(list(cluster.manifests().values())))
    assert len(found) >= 7, "five Deployments and two Jobs"
    for template in found:
        admit(api_server, restricted, template)


@pytest.mark.parametrize("values", [{}, {"imagePullSecrets": [{"name": "pull"}]}], ids=["default", "pull-secrets"])
def test_the_operators_pod(api_server: ApiServer, restricted: str, helm: Helm, values: dict[str, Any]) -> None:
    [template] = templates(helm.template(**values))
    admit(api_server, restricted, template)


def test_any_other_pod_is_refused(api_server: ApiServer, restricted: str, helm: Helm) -> None:
    [template] = templates(helm.template())
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(httpx2.HTTPStatusError, match="violates PodSecurity"):
        admit(api_server, restricted, template)
