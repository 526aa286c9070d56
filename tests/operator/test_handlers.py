"""Which resources an event matters to, and what Kopf is told."""

from typing import Any

import kopf
from chatbot_operator import handlers, names
from chatbot_operator.kinds import API_VERSIONS, WATCHED, WRITTEN, path, plural
from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.referrers import Referrers
from chatbot_operator.world import Reference

HARBOUR, QUAY = ("docks", "harbour"), ("docks", "quay")


async def nobody() -> kopf.AiohttpSession:
    raise AssertionError


class TestKeys:
    def test_a_child_matters_to_its_resource(self) -> None:
        labels = {names.BOT: "harbour"}
        assert handlers.keys("Pod", "docks", "harbour-chat-1", labels, Referrers()) == {HARBOUR}

    def test_a_referenced_object_matters_to_all_that_refer_to_it(self) -> None:
        referrers = Referrers()
        referrers.refer(HARBOUR, {Reference("Secret", "openai"), Reference("Secret", "openai", "key")})
        referrers.refer(QUAY, {Reference("Secret", "openai", "key")})
        assert handlers.keys("Secret", "docks", "openai", {}, referrers) == {HARBOUR, QUAY}
        assert handlers.keys("Secret", "elsewhere", "openai", {}, referrers) == set()
        assert handlers.keys("ConfigMap", "docks", "openai", {}, referrers) == set()

    def test_what_is_no_longer_referred_to_matters_to_nobody(self) -> None:
        referrers = Referrers()
        referrers.refer(HARBOUR, {Reference("Secret", "openai", "key")})
        referrers.refer(HARBOUR, {Reference("Secret", "mistral", "key")})
        assert referrers.of(("Secret", "docks", "openai")) == set()
        assert referrers.of(("Secret", "docks", "mistral")) == {HARBOUR}
        referrers.refer(HARBOUR, ())
        assert referrers.of(("Secret", "docks", "mistral")) == set()


class TestNews:
    @staticmethod
    async def told(kind: str, type: str | None, version: str, known: Known) -> list[Key]:
        """What is queued when Kopf tells of the object with the uid `a`."""
        queued: list[Key] = []
        registry = handlers.registry(queued.append, Referrers(), known, nobody)
        (handler,) = (item for item in registry._watching.get_all_handlers() if item.id == plural(kind))
        notice: Any = handler.fn
        metadata: Any = {"namespace": "docks", "name": "harbour", "uid": "a", "labels": {names.BOT: "harbour"}}
        body = kopf.Body(kopf.RawBody(metadata=metadata | {"resourceVersion": version}))
        resource = kopf.Resource(*handlers._address(kind), kind=kind)
        await notice(resource=resource, meta=body.metadata, body=body, type=type)
        return queued

    async def test_is_what_was_not_looked_at_yet(self) -> None:
        for kind in ("ChatbotDeployment", "Deployment"):
            for type in (None, "ADDED", "MODIFIED", "DELETED"):
                assert await self.told(kind, type, "2", Known()) == [HARBOUR]

    async def test_is_not_what_was_looked_at_in_this_very_version(self) -> None:
        known = Known()
        known.begin(HARBOUR)
        known.settled(HARBOUR, {"a": "2"}, {}, 60)
        for kind in ("ChatbotDeployment", "Deployment"):
            assert await self.told(kind, None, "2", known) == []
            assert await self.told(kind, "MODIFIED", "2", known) == []
            assert await self.told(kind, "MODIFIED", "3", known) == [HARBOUR]
            assert await self.told(kind, "DELETED", "2", known) == [HARBOUR]


class TestKopf:
    def test_only_watching_handlers_so_that_it_never_writes(self) -> None:
        registry = handlers.registry(lambda _: None, Referrers(), Known(), nobody)
        watched = [handler.selector for handler in registry._watching.get_all_handlers()]
        assert len(watched) == 1 + len(WATCHED)
        for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
            assert not list(others.get_all_handlers())

    def test_every_kind_but_our_own_is_watched_by_its_labels(self) -> None:
        selectors = handlers.settings().watching.label_selectors
        assert set(WRITTEN) < set(WATCHED)
        for kind in WATCHED:
            assert selectors[handlers._address(kind)]
        assert handlers._address("ChatbotDeployment") not in selectors


class TestPaths:
    def test_of_every_kind(self) -> None:
        assert path("Pod", "docks", "a") == "/api/v1/namespaces/docks/pods/a"
        assert path("Deployment", None) == "/apis/apps/v1/deployments"
        assert path("ChatbotDeployment", "docks", "a", "status") == (
            "/apis/chatbot-operator.io/v1alpha1/namespaces/docks/chatbotdeployments/a/status"
        )
        assert all(path(kind, "docks") for kind in API_VERSIONS)
