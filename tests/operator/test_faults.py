"""Every answer of the API server that is not what was asked for, on a real one where it can be had from there."""

import json
from typing import Any

import aiohttp
import pytest
from chatbot_operator import cluster as clusters
from chatbot_operator import faults
from chatbot_operator.cluster import Cluster
from chatbot_operator.connection import api_client, configuration
from kubernetes.aio.client.exceptions import ApiException

from tests.operator.relay import relay
from tests.operator.running import World
from tests.support.serving import free_port


def answer(code: int, headers: dict[str, str] | None = None, **status: Any) -> ApiException:
    error = ApiException(status=code, reason="as HTTP says it", body=json.dumps(status))
    error.headers = headers
    return error


class TestTranslate:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (answer(404, reason="NotFound"), faults.NotFound),
            (answer(409, reason="AlreadyExists"), faults.AlreadyExists),
            (answer(409, reason="Conflict"), faults.Conflict),
            (answer(422, reason="Invalid"), faults.Invalid),
            (answer(403, reason="Forbidden"), faults.Refused),
            (answer(401, reason="Unauthorized"), faults.Unavailable),
            (answer(429), faults.Unavailable),
            (answer(410, reason="Expired"), faults.Unavailable),
            (answer(500), faults.Unavailable),
            (answer(503), faults.Unavailable),
            (answer(413, reason="RequestEntityTooLarge"), faults.TooLarge),
            (answer(500, message="etcdserver: request is too large"), faults.TooLarge),
            (
                answer(
                    500, message="rpc error: code = ResourceExhausted desc = trying to send message larger than max"
                ),
                faults.TooLarge,
            ),
        ],
    )
    def test_each_code_is_what_to_do_about_it(self, error: ApiException, kind: type[faults.ApiFault]) -> None:
        assert type(faults.translate(error)) is kind

    def test_what_is_invalid_names_its_fields(self) -> None:
        causes = [{"reason": "FieldValueDuplicate", "field": "spec.ports[1].name"}]
        fault = faults.translate(answer(422, reason="Invalid", details={"causes": causes}))
        assert isinstance(fault, faults.Invalid)
        assert fault.fields == ("spec.ports[1].name",)

    def test_a_webhook_that_is_down_concerns_what_it_was_asked_about_alone(self) -> None:
        said = (
            'Internal error occurred: failed calling webhook "mcluster.cnpg.io": failed to call webhook: no endpoints'
        )
        assert type(faults.translate(answer(500, reason="InternalError", message=said))) is faults.Refused

    def test_an_owner_the_server_has_not_learned_yet_is_told_from_a_lack_of_rights(self) -> None:
        said = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion a/v1 Kind B"
        assert type(faults.translate(answer(403, reason="Forbidden", message=said))) is faults.Unnoticed

    def test_a_namespace_that_is_going_is_told_from_a_lack_of_rights(self) -> None:
        causes = [{"reason": "NamespaceTerminating"}]
        assert type(faults.translate(answer(403, details={"causes": causes}))) is faults.NamespaceGoing

    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (answer(429, {"Retry-After": "7"}), 7),
            (answer(429, details={"retryAfterSeconds": 3}), 3),
            (answer(503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), 0),
            (answer(503, {"Retry-After": "86400"}), 300),
            (answer(503, {"Retry-After": "inf"}), 300),
            (answer(503, {"Retry-After": "nan"}), 0),
            (answer(503), 0),
        ],
    )
    def test_how_long_to_stay_away(self, error: ApiException, seconds: float) -> None:
        fault = faults.translate(error)
        assert isinstance(fault, faults.Unavailable)
        assert fault.retry_after == seconds

    def test_a_proxys_answer_without_a_status_is_survived(self) -> None:
        error = ApiException(status=502, reason="Bad Gateway", body="<html>")
        assert "Bad Gateway" in str(faults.translate(error))


class TestRequests:
    async def test_the_servers_own_message_is_kept(self, world: World) -> None:
        bad = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Bad_Name", "namespace": world.namespace}}
        with pytest.raises(faults.Refused, match="lowercase RFC 1123"):
            await world.cluster.create(bad)

    async def test_deleting_what_has_changed_is_a_conflict_and_what_is_gone_is_fine(self, world: World) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": world.namespace}}
        live = await world.cluster.create(body)
        world.api.patch("ConfigMap", world.namespace, "a", {"data": {"changed": "yes"}})
        with pytest.raises(faults.Conflict):
            await world.cluster.delete(live)
        changed = await world.cluster.get("ConfigMap", world.namespace, "a")
        assert changed
        await world.cluster.delete(changed)
        await world.cluster.delete(changed)
        assert await world.cluster.get("ConfigMap", world.namespace, "a") is None

    async def test_items_of_lists_say_what_they_are(self, world: World) -> None:
        world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, world.namespace)
        found = await world.cluster.list("Secret", world.namespace)
        assert [(item["kind"], item["apiVersion"]) for item in found] == [("Secret", "v1")]

    async def test_no_server_at_all_is_something_to_wait_for(self, world: World) -> None:
        told = await configuration()
        told.host = f"https://127.0.0.1:{free_port()}"
        async with api_client(told, world.metrics) as client:
            with pytest.raises(faults.Unavailable, match="no answer to get"):
                await Cluster(client).get("ConfigMap", world.namespace, "a")
        sample = {"verb": "get", "code": "0"}
        assert world.metrics.registry.get_sample_value("chatbot_operator_api_requests_total", sample) == 1

    async def test_a_server_that_says_nothing_is_given_up(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clusters, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))

        with relay(world.api.layout.api_port) as way:
            way.freeze()
            told = await configuration()
            told.host = f"https://127.0.0.1:{way.port}"
            async with api_client(told, world.metrics) as client:
                with pytest.raises(faults.Unavailable):
                    await Cluster(client).get("ConfigMap", world.namespace, "a")
