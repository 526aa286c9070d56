"""Whose doing it is that a child is other than wanted, on an API server in memory."""

import copy
from typing import Any, cast

import pytest
from chatbot_operator import names
from chatbot_operator.applying import Applier, NameTaken
from chatbot_operator.cluster import Cluster
from chatbot_operator.components.metadata import manifest
from chatbot_operator.faults import Conflict
from chatbot_operator.fights import Fought, Taken
from chatbot_operator.metrics import Metrics
from chatbot_operator.world import Manifest

from tests.operator.simulated import UID, make_bot

NAME = "demo-chat"
CHILD = ("Deployment", "team", NAME)


def deployment(image: str, **env: str) -> Manifest:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    container = {"name": "chat", "image": image, "env": variables}
    return manifest(
        make_bot(), "chat", "Deployment", NAME, {"spec": {"template": {"spec": {"containers": [container]}}}}
    )


class Server:
    """Keeps one object, and what was applied; its webhook may write images in its own way."""

    def __init__(self, mirror: str = "") -> None:
        self.mirror = mirror
        self.live: Manifest = {}
        self.applied = 0
        self.patched: list[Manifest] = []

    async def apply(self, body: Manifest, _: str = names.FIELD_MANAGER) -> Manifest:
        self.applied += 1
        self.write(copy.deepcopy(body), names.FIELD_MANAGER, "Apply")
        container(self.live)["image"] = self.mirror + container(self.live)["image"]
        return self.live

    async def patch(self, _: str, __: str, ___: str, body: Manifest) -> Manifest:
        self.patched.append(body)
        return self.live

    async def list(self, *_: Any, **__: Any) -> list[Manifest]:
        return [self.live]

    def write(self, body: Manifest, manager: str, operation: str = "Update") -> None:
        """As a PUT does it: all of it is the manager's now."""
        fields: Any = {
            "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"chat"}': {"f:image": {}}}}}},
            "f:metadata": {"f:annotations": {f"f:{names.APPLIED_HASH}": {}}},
        }
        if names.APPLIED_HASH not in body["metadata"].get("annotations", {}):
            del fields["f:metadata"]
        entry = {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields}
        told = {"uid": "1", "resourceVersion": str(self.applied), "managedFields": [entry]}
        self.live = body | {"metadata": body["metadata"] | told}


def container(live: Manifest) -> Manifest:
    found: Manifest = live["spec"]["template"]["spec"]["containers"][0]
    return found


def without_hash(live: Manifest) -> Manifest:
    body = copy.deepcopy(live)
    del body["metadata"]["annotations"][names.APPLIED_HASH]
    return body


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def applier(server: Server) -> Applier:
    return Applier(cast("Cluster", server), Metrics("0"), UID)


class TestWhoIsNamed:
    async def fights(self, applier: Applier, server: Server, theirs: Manifest, manager: str) -> list[Any]:
        """What comes of five writes of theirs."""
        wanted, told = deployment("chat:1"), []
        await applier.settle(wanted, None)
        for turn in range(5):
            server.write(copy.deepcopy(theirs), manager)
            server.live["metadata"]["resourceVersion"] = str(100 + turn)
            try:
                told.append(await applier.settle(wanted, server.live))
            except Fought as fought:
                told.append(str(fought))
        return told

    @pytest.mark.parametrize("image", ["chat:1", "chat:0"])
    async def test_is_who_writes_whole_objects_without_our_hash(
        self, applier: Applier, server: Server, image: str
    ) -> None:
        told = await self.fights(applier, server, without_hash(deployment(image)), "kubectl-replace")
        assert [getattr(one, "manager", one) for one in told[:3]] == ["kubectl-replace"] * 3
        assert all("is changed by kubectl-replace" in one for one in told[3:])

    async def test_is_somebody_where_a_field_is_removed(self, applier: Applier, server: Server) -> None:
        """As by `kubectl edit`, or a JSON patch: the API server notes who wrote a field, not who took it away."""
        wanted, told = deployment("chat:1", MODE="calm"), []
        await applier.settle(wanted, None)
        for turn in range(4):
            server.live = copy.deepcopy(server.live)
            container(server.live)["env"] = []
            server.live["metadata"]["resourceVersion"] = str(100 + turn)
            try:
                told.append(str(await applier.settle(wanted, server.live)))
            except Fought as fought:
                told.append(str(fought))
        field = "spec.template.spec.containers[name=chat].env[name=MODE] of Deployment demo-chat"
        assert told[:3] == [f"{field}, removed by somebody, is what the resource says again."] * 3
        assert told[3] == f"{field} is removed by somebody."

    async def test_is_nobody_where_it_is_seen_as_it_was_before(self, applier: Applier, server: Server) -> None:
        wanted = deployment("chat:1", MODE="calm")
        await applier.settle(wanted, None)
        old = copy.deepcopy(server.live)
        container(old)["env"] = []
        old["metadata"]["resourceVersion"] = "0"
        assert await applier.settle(wanted, old) is True

    async def test_is_nobody_where_nothing_is_known_of_before(self, applier: Applier, server: Server) -> None:
        wanted = deployment("chat:1", MODE="calm")
        await applier.settle(wanted, None)
        container(server.live)["env"] = []
        assert await Applier(cast("Cluster", server), Metrics("0"), UID).settle(wanted, server.live) is True

    async def test_is_somebody_who_takes_off_our_hash_and_leaves_no_name(
        self, applier: Applier, server: Server
    ) -> None:
        wanted = deployment("chat:1")
        await applier.settle(wanted, None)
        live = without_hash(server.live)
        live["metadata"] |= {"resourceVersion": "9", "managedFields": []}
        taken = await applier.settle(wanted, live)
        assert isinstance(taken, Taken)
        assert "removed by somebody" in str(taken)

    async def test_is_who_makes_it_anew_again_and_again(self, applier: Applier, server: Server) -> None:
        """As `kubectl replace --force` does."""
        wanted, told = deployment("chat:1"), []
        await applier.settle(wanted, None)
        for turn in range(5):
            server.write(without_hash(deployment("chat:0")), "kubectl-replace")
            server.live["metadata"] |= {"uid": f"theirs-{turn}", "resourceVersion": str(100 + turn)}
            try:
                told.append(await applier.settle(wanted, server.live))
            except Fought as fought:
                told.append(str(fought))
        assert [getattr(one, "manager", one) for one in told[:3]] == ["kubectl-replace"] * 3
        assert all("is changed by kubectl-replace" in one for one in told[3:])

    async def test_is_not_who_has_scaled_it_since(self, applier: Applier, server: Server) -> None:
        theirs, wanted = without_hash(deployment("chat:1")), deployment("chat:1")
        await applier.settle(wanted, None)
        server.write(theirs, "kubectl-replace")
        scaled = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale"}
        scaled |= {"time": "2026-11-21T07:00:00Z"}
        fields = {"fieldsV1": {"f:spec": {"f:replicas": {}}}}
        server.live["metadata"]["managedFields"].append(scaled | fields)
        taken = await applier.settle(
            wanted, server.live | {"metadata": server.live["metadata"] | {"resourceVersion": "9"}}
        )
        assert isinstance(taken, Taken)
        assert taken.manager == "kubectl-replace"

    async def test_is_another_release_that_watches_the_same_namespace(self, applier: Applier, server: Server) -> None:
        told = await self.fights(applier, server, deployment("chat:2"), names.FIELD_MANAGER)
        assert all(isinstance(one, Taken) for one in told[:3])
        assert all("another chatbot-operator" in one for one in told[3:])

    async def test_is_nobody_after_edits_of_ours(self, applier: Applier, server: Server) -> None:
        await applier.settle(deployment("chat:0"), None)
        for turn in range(1, 8):
            assert await applier.settle(deployment(f"chat:{turn}"), server.live) is True

    async def test_is_nobody_after_a_restart_or_a_late_answer(self, applier: Applier, server: Server) -> None:
        await applier.settle(deployment("chat:1"), None)
        late = server.live
        again = Applier(cast("Cluster", server), Metrics("0"), UID)
        assert await again.settle(deployment("chat:2"), late) is True
        assert await again.settle(deployment("chat:2"), late) is True, "it has not seen the last write"

    @pytest.mark.parametrize("theirs", [without_hash(deployment("chat:0")), deployment("chat:0")])
    async def test_is_excused_once_after_a_restart(self, applier: Applier, server: Server, theirs: Manifest) -> None:
        """What is there then may be of an earlier release, or of before an edit; what is written again is not."""
        server.write(copy.deepcopy(theirs), "kubectl-replace")
        assert await applier.settle(deployment("chat:1"), server.live) is True
        told = await self.fights(applier, server, theirs, "kubectl-replace")
        assert [type(one) for one in told] == [Taken] * 3 + [str] * 2

    async def test_is_who_applies_what_was_ours_before_an_edit(self, applier: Applier, server: Server) -> None:
        """Hash and all, as somebody has exported it."""
        await applier.settle(deployment("chat:0"), None)
        exported = copy.deepcopy(server.live)
        told = await self.fights(applier, server, exported, "argocd-controller")
        assert [getattr(one, "manager", one) for one in told[:3]] == ["argocd-controller"] * 3
        assert all("is changed by argocd-controller" in one for one in told[3:])

    async def test_is_nobody_where_an_answer_was_lost(self, applier: Applier, server: Server) -> None:
        await applier.settle(deployment("chat:0"), None)
        before, apply = server.live, server.apply

        async def lost(body: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
            await apply(body, manager)
            raise TimeoutError

        server.apply = lost  # type: ignore[method-assign]
        with pytest.raises(TimeoutError):
            await applier.settle(deployment("chat:1"), before)
        server.apply = apply  # type: ignore[method-assign]
        for live in (server.live, before):
            again = copy.copy(applier)
            again._doings = copy.deepcopy(applier._doings)
            assert await again.settle(deployment("chat:2"), live) is True

    async def test_is_nobody_where_another_has_taken_the_place_of_what_was_deleted(
        self, applier: Applier, server: Server
    ) -> None:
        """As a generated Secret, which is made before it is applied."""
        wanted = deployment("chat:1")
        await applier.settle(wanted, None)
        again = without_hash(server.live)
        again["metadata"] |= {"uid": "2", "resourceVersion": "77"}
        assert await applier.settle(wanted, again) is True

    async def test_is_forgotten_with_what_was_deleted(self, applier: Applier, server: Server) -> None:
        await self.fights(applier, server, without_hash(deployment("chat:0")), "kubectl-replace")
        applier.forget("team", [CHILD[::2]])
        for known in (applier._settled, applier._kept, applier._doings, applier._fights._fights):
            assert CHILD not in known


class TestConflict:
    """Somebody was faster: what is there by now is judged like what was there before."""

    @pytest.fixture
    async def before(self, applier: Applier, server: Server, monkeypatch: pytest.MonkeyPatch) -> Manifest:
        """What was observed, of a server that takes no more applies."""
        await applier.settle(deployment("chat:1"), None)

        async def refuse(*_: Any) -> Manifest:
            raise Conflict("it was changed meanwhile")

        monkeypatch.setattr(server, "apply", refuse)
        return server.live

    async def test_what_is_right_by_then_is_not_applied_again(
        self, applier: Applier, server: Server, before: Manifest
    ) -> None:
        server.write(deployment("chat:2"), names.FIELD_MANAGER, "Apply")
        assert await applier.settle(deployment("chat:2"), before) is False

    async def test_what_is_anothers_by_then_is_left_alone(
        self, applier: Applier, server: Server, before: Manifest
    ) -> None:
        theirs = [{"uid": "2", "kind": "Other", "controller": True}]
        server.write(before | {"metadata": before["metadata"] | {"ownerReferences": theirs}}, "other")
        with pytest.raises(NameTaken, match="still belongs to another owner"):
            await applier.settle(deployment("chat:2"), before)


class TestKeptOtherwise:
    """By a webhook that writes images in its own way."""

    async def test_is_left_so_and_what_others_write_there_is_taken_back(self) -> None:
        server = Server("mirror/")
        applier = Applier(cast("Cluster", server), Metrics("0"), UID)
        wanted = deployment("chat:1")
        await applier.settle(wanted, None)
        server.live["metadata"]["resourceVersion"] = "its status"
        assert await applier.settle(wanted, server.live) is False
        evil = copy.deepcopy(server.live)
        container(evil)["image"] = "evil/chat:666"
        server.write(evil, "kubectl-set")
        server.live["metadata"]["resourceVersion"] = "theirs"
        taken = await applier.settle(wanted, server.live)
        assert isinstance(taken, Taken)
        assert (taken.manager, container(server.live)["image"]) == ("kubectl-set", "mirror/chat:1")


async def test_what_others_have_is_not_what_was_never_applied(applier: Applier, server: Server) -> None:
    """A variable of theirs has the value that one of ours is to have now."""
    await applier.settle(deployment("chat:1", LEVEL="info"), None)
    live = copy.deepcopy(server.live)
    container(live)["env"].append({"name": "FEATURE_A", "value": "true"})
    theirs: Any = {"f:env": {'k:{"name":"FEATURE_A"}': {".": {}, "f:name": {}, "f:value": {}}}}
    pods: Any = {"f:spec": {"f:containers": {'k:{"name":"chat"}': theirs}}}
    entry = {"manager": "kubectl-set", "operation": "Update", "apiVersion": "apps/v1"}
    live["metadata"]["managedFields"].append(entry | {"fieldsV1": {"f:spec": {"f:template": pods}}})
    assert await applier.settle(deployment("chat:1", LEVEL="info", FEATURE_B="true"), live) is True
    assert server.patched == []
