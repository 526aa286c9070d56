"""Policies of the network and the way in: both ends of each connection agree, and what is named can be reached."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from chatbot_operator.components import addresses, network
from chatbot_operator.world import Manifest
from chatbot_resource.llm import KEYED_PROVIDERS

from tests.operator.simulated import LATER, NOW, Cluster, make_bot
from tests.operator.specs import DEV, EXTERNAL, LLM, STANDARD

OPERATOR = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "chatbot-operator"}},
}
"""As the chart labels its pods, in the namespace of its Lease."""


def policies(spec: dict[str, Any]) -> dict[str, Manifest]:
    """By part."""
    cluster = Cluster(make_bot(spec)).converge()
    found = {name: item for (kind, name), item in cluster.children.items() if kind == "NetworkPolicy"}
    return {name.removeprefix("demo-"): item["spec"] for name, item in found.items()}


def parts(peers: list[Manifest]) -> set[str]:
    return {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in peers}


def ports(rule: Manifest) -> set[int]:
    return {port["port"] for port in rule["ports"]}


def lets_through(rule: Manifest, address: str) -> bool:
    """To an address that is no pod's."""

    def holds(net: str) -> bool:
        return ip_address(address) in ip_network(net)

    blocks = [peer["ipBlock"] for peer in rule.get("to", [{"ipBlock": {"cidr": f"{address}"}}]) if "ipBlock" in peer]
    return any(holds(block["cidr"]) and not any(map(holds, block.get("except", []))) for block in blocks)


class TestPolicies:
    def test_each_part_has_one_that_denies_the_rest(self) -> None:
        found = policies(DEV)
        assert set(found) == set(network.CALLS)
        for part, policy in found.items():
            assert policy["policyTypes"] == ["Ingress", "Egress"]
            assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == part

    def test_every_way_out_is_a_way_in(self) -> None:
        found = policies(DEV)
        out = {
            (part, called, port)
            for part, policy in found.items()
            for rule in policy.get("egress", [])
            if all("podSelector" in peer for peer in rule.get("to", [{}]))
            for called in parts(rule["to"])
            for port in ports(rule)
        }
        into = {
            (caller, part, port)
            for part, policy in found.items()
            for rule in policy.get("ingress", [])
            if all("namespaceSelector" not in peer for peer in rule.get("from", [{"namespaceSelector": {}}]))
            for caller in parts(rule["from"])
            for port in ports(rule)
        }
        assert out == into
        assert ("chat", "redis", 6379) in out
        assert not any(called == "postgres" for caller, called, _ in out if caller in ("gateway", "chat"))

    def test_stores_reach_nobody(self) -> None:
        found = policies(DEV)
        assert [found[store].get("egress", []) for store in ("postgres", "redis", "weaviate")] == [[], [], []]

    def test_off_has_none(self) -> None:
        assert policies(DEV | {"network": {"policy": "Off"}}) == {}
        cluster = Cluster(make_bot(DEV)).converge()
        cluster.edit(network={"policy": "Off"})
        assert not [name for kind, name in cluster.converge().children if kind == "NetworkPolicy"]

    def test_only_chat_reaches_the_world(self) -> None:
        outward = {part for part, policy in policies(DEV).items() if addresses.PUBLIC in policy.get("egress", [])}
        assert outward == {"chat"}
        rule = {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
        told = policies(DEV | {"network": {"egress": [rule]}})
        assert {part for part, policy in told.items() if rule in policy.get("egress", [])} == set(network.SCRAPED)
        assert not any(addresses.PUBLIC in policy.get("egress", []) for policy in told.values())

    def test_a_way_is_written_as_the_api_server_has_it(self) -> None:
        """Else it stands twice in a policy that keeps what pods that drain go on calling."""
        told = policies(DEV | {"network": {"egress": [{"ports": [{"port": 443}, {"port": 1, "endPort": 9}]}]}})
        ports = [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 1, "endPort": 9}]
        assert {"ports": ports} in told["chat"]["egress"]

    def test_tools_reach_what_they_need(self) -> None:
        """Also where the resource says what may be reached, and does not name it again."""
        closed = STANDARD | {"network": {"egress": [{"ports": [{"protocol": "TCP", "port": 9}]}]}}
        weather = {"baseURL": "http://weather.tools:8080/v1", "geocodingURL": "https://192.0.2.1/v1"}
        without = policies(closed)["chat"]["egress"]
        found = policies(closed | {"tools": {"enabled": ["weather"], "weather": weather}})["chat"]["egress"]
        assert [rule for rule in found if rule not in without] == [
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}}]},
            _full({"ports": [8080]}),
            {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        ]
        servers = [{"name": "shop", "url": "http://shop.team-a.svc:8000/mcp"}]
        found = policies(closed | {"tools": {"mcpServers": servers}})["chat"]["egress"]
        assert [rule for rule in found if rule not in without] == [
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}]},
        ]
        fetching = closed | {"tools": {"enabled": ["http_fetch"], "httpAllowList": ["example.com"]}}
        assert addresses.PUBLIC in policies(fetching)["chat"]["egress"]
        assert addresses.PUBLIC not in policies(fetching)["auth"]["egress"]

    def test_metrics_are_for_who_is_named(self) -> None:
        peers = [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]
        told = policies(DEV | {"network": {"metricsFrom": peers}})
        for part in network.SCRAPED:
            rules = [rule for rule in told[part]["ingress"] if ports(rule) == {9090}]
            assert [rule["from"] for rule in rules] == [[*peers, OPERATOR]]

    def test_the_operator_may_ask_pods_how_they_are(self) -> None:
        found = policies(DEV)
        asked = {
            part for part, policy in found.items() for rule in policy["ingress"] if OPERATOR in rule.get("from", [])
        }
        assert asked == set(network.SCRAPED)

    def test_external_stores_are_reached_at_their_usual_ports(self) -> None:
        postgres = {"authSecretRef": {"name": "a"}, "conversationSecretRef": {"name": "c"}}
        stores = {"postgres": {"mode": "External", "external": postgres}, "vectors": {"type": "PGVector"}}
        found = policies(DEV | {"stores": stores})
        assert _full({"ports": [5432]}) in found["auth"]["egress"]
        assert "postgres" not in found
        assert "weaviate" not in found

    @pytest.mark.parametrize("address", ["169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254"])
    def test_no_name_leads_to_where_clouds_tell_credentials(self, address: str) -> None:
        """A name leads where its owner says, and the address behind a Secret is anybody's."""
        stores = EXTERNAL | {"vectors": {"mode": "External", "external": {"url": "http://vectors.example.com"}}}
        named = {"llm": LLM, "telemetry": {"otlp": {"endpoint": "http://otel.example.com"}}, "stores": stores}
        found = policies(DEV | named)
        opened = {
            (part, str(rule["ports"]))
            for part, policy in found.items()
            for rule in policy.get("egress", [])
            if rule != addresses.DNS and lets_through(rule, address)
        }
        assert opened == set()
        for private in ("10.1.2.3", "203.0.113.1", "fd00::1"):
            assert any(ports(rule) == {80} and lets_through(rule, private) for rule in found["auth"]["egress"])

    def test_a_weaviate_at_an_address_of_ipv6_is_reached(self) -> None:
        vectors = {"mode": "External", "external": {"url": "http://[fd00::1]:8080"}}
        found = policies(DEV | {"stores": {"vectors": vectors}})
        there = [rule for rule in found["conversation"]["egress"] if "fd00::1/128" in str(rule)]
        assert [ports(rule) for rule in there] == [{8080}, {50051}]

    def test_sentinels_are_reached_besides(self) -> None:
        for topology, reached in (("Single", {6379, 6380}), ("Sentinel", {6379, 6380, 26379})):
            redis = {"mode": "External", "external": {"topology": topology, "secretRef": {"name": "cache"}}}
            found = policies(DEV | {"stores": {"redis": redis}})
            for part in ("gateway", "chat"):
                assert [ports(rule) for rule in found[part]["egress"] if 6379 in ports(rule)] == [reached]

    @pytest.mark.parametrize(
        ("url", "rules"),
        [
            ("http://10.1.2.3:8000/v1", [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [8000]}]),
            ("http://[fd00::1]/v1", [{"to": [{"ipBlock": {"cidr": "fd00::1/128"}}], "ports": [80]}]),
            ("https://models.example.com/v1", [{"ports": [443]}]),
            ("http://models:9/v1", [{"to": "team"}]),
            ("http://vllm.models.svc.cluster.local:8000/v1", [{"to": "models"}]),
            ("http://vllm.models.svc:8000/v1", [{"to": "models"}]),
            ("http://vllm.models:8000/v1", [{"to": "models"}, {"ports": [8000]}]),
            ("http://vllm.-x:8000/v1", [{"ports": [8000]}]),
            (f"http://vllm.{'x' * 64}.svc:8000/v1", [{"ports": [8000]}]),
        ],
    )
    def test_a_model_named_in_the_resource_is_reached(self, url: str, rules: list[Manifest]) -> None:
        llm = {
            "providers": [{"name": "p", "type": "OpenAICompatible", "baseURL": url}],
            "models": [{"name": "m", "deployments": [{"provider": "p", "model": "x"}]}],
            "default": "m",
        }
        wanted = [_full(rule) for rule in rules]
        found = policies(DEV | {"llm": llm, "network": {"egress": [{"ports": [{"port": 1}]}]}})
        assert [rule for rule in found["chat"]["egress"] if rule in wanted] == wanted
        named = [rule["to"] for rule in found["chat"]["egress"] if "namespaceSelector" in str(rule.get("to"))]
        assert "-x" not in str(named)
        assert "x" * 64 not in str(named)
        assert not [rule for rule in found["gateway"]["egress"] if rule in wanted]

    @pytest.mark.parametrize("kind", sorted(KEYED_PROVIDERS))
    def test_so_is_a_maker_whose_address_is_known(self, kind: str) -> None:
        llm = {"providers": [{"name": "p", "type": kind, "apiKeySecretRef": {"name": "s", "key": "k"}}]}
        found = policies(DEV | {"llm": llm, "network": {"egress": [{"ports": [{"port": 1}]}]}})
        assert _full({"ports": [443]}) in found["chat"]["egress"]
        assert _full({"ports": [443]}) not in found["auth"]["egress"]


class TestRollouts:
    """One policy is for old pods and new ones: what serves goes on to serve until it is replaced."""

    @staticmethod
    def llm(address: str) -> dict[str, Any]:
        return {
            "providers": [{"name": "p", "type": "OpenAICompatible", "baseURL": f"http://{address}:8000/v1"}],
            "models": [{"name": "m", "deployments": [{"provider": "p", "model": "x"}]}],
            "default": "m",
        }

    @staticmethod
    def reached(cluster: Cluster, part: str) -> str:
        return str(cluster.child("NetworkPolicy", f"demo-{part}")["spec"]["egress"])

    def test_what_the_resource_named_before_is_reached_until_the_last_old_pod_is_gone(self) -> None:
        cluster = Cluster(make_bot(DEV | {"llm": self.llm("192.0.2.1")})).converge()
        cluster.edit(llm=self.llm("192.0.2.2"))
        cluster.reconcile()
        cluster.reconcile()
        assert cluster.child("Deployment", "demo-chat")["metadata"]["generation"] == 2
        for address in ("192.0.2.1/32", "192.0.2.2/32"):
            assert self.reached(cluster, "chat").count(address) == 1
        assert "192.0.2.2" not in self.reached(cluster, "auth")
        cluster.settle()
        cluster.reconcile()
        assert "192.0.2.1/32" not in self.reached(cluster, "chat")

    @pytest.mark.parametrize("dead", [False, True])
    def test_who_drains_reaches_it_until_it_has_ended(self, *, dead: bool) -> None:
        """A pod that was told to end is in no status, and may be amid an answer; on a dead node it stays for ever."""
        cluster = Cluster(
            make_bot(DEV | {"llm": self.llm("192.0.2.1"), "stores": {"redis": {"mode": "Dev"}}})
        ).converge()
        cluster.at = NOW
        cluster.pod("chat", "demo-chat-old", {"phase": "Running"})
        secret = {"secret": {"name": "demo-redis"}}
        cluster.pods[-1]["metadata"]["deletionTimestamp"] = NOW
        cluster.pods[-1]["spec"]["volumes"] = [{"name": "secrets", "projected": {"sources": [secret]}}]
        cluster.edit(llm=self.llm("192.0.2.2"), stores={"redis": EXTERNAL["redis"]})
        for _ in range(5):
            cluster.reconcile()
            cluster.settle()
        assert "192.0.2.1/32" in self.reached(cluster, "chat")
        assert ("StatefulSet", "demo-redis") in cluster.children
        if dead:
            cluster.at = LATER
        else:
            cluster.pods[-1]["status"] = {"phase": "Succeeded"}
        cluster.converge()
        assert "192.0.2.1/32" not in self.reached(cluster, "chat")
        assert ("StatefulSet", "demo-redis") not in cluster.children

    def test_who_has_never_settled_reaches_what_it_was_made_with(self) -> None:
        cluster = Cluster(make_bot(DEV | {"llm": self.llm("192.0.2.1")})).converge()
        del cluster.children[next(name for name in cluster.children if name[0] == "ControllerRevision")]
        for address in ("192.0.2.2", "192.0.2.3"):
            cluster.edit(llm=self.llm(address))
            cluster.reconcile()
        for address in ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"):
            assert self.reached(cluster, "chat").count(address) == 1

    def test_what_somebody_else_has_opened_is_closed_at_once(self) -> None:
        cluster = Cluster(make_bot(DEV | {"llm": self.llm("192.0.2.1")})).converge()
        policy = cluster.child("NetworkPolicy", "demo-chat")
        policy["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]})
        edit = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:egress": {}}}}
        policy["metadata"]["managedFields"] = [edit]
        cluster.edit(llm=self.llm("192.0.2.2"))
        cluster.reconcile()
        assert "203.0.113.0" not in self.reached(cluster, "chat")
        assert "192.0.2.1/32" in self.reached(cluster, "chat")

    def test_what_the_resource_no_longer_opens_is_closed_at_once(self) -> None:
        opened = {"egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]}
        cluster = Cluster(make_bot(DEV | {"network": opened})).converge()
        cluster.edit(network={})
        cluster.reconcile()
        assert "203.0.113.0" not in self.reached(cluster, "chat")

    @pytest.mark.parametrize("settled", [True, False])
    def test_a_store_that_is_to_go_is_guarded_and_reached_while_it_is_used(self, *, settled: bool) -> None:
        cluster = Cluster(make_bot(DEV))
        cluster.converge()
        if not settled:
            del cluster.children[next(name for name in cluster.children if name[0] == "ControllerRevision")]
        cluster.edit(stores={"redis": EXTERNAL["redis"], "vectors": {"type": "PGVector"}})
        used = {("demo-gateway", "redis"), ("demo-conversation", "weaviate")}
        for name, _ in used:
            old = cluster.child("Deployment", name) | {"kind": "ReplicaSet", "status": {"replicas": 1}}
            cluster.children["ReplicaSet", name] = old | {"metadata": {"name": name}}
        cluster.reconcile()
        cluster.reconcile()
        for name, store in used:
            assert ("NetworkPolicy", f"demo-{store}") in cluster.children
            assert f"'app.kubernetes.io/component': '{store}'" in self.reached(cluster, name.removeprefix("demo-"))
            del cluster.children["ReplicaSet", name]
        cluster.converge()
        for name, store in used:
            assert ("NetworkPolicy", f"demo-{store}") not in cluster.children
            assert f"'app.kubernetes.io/component': '{store}'" not in self.reached(cluster, name.removeprefix("demo-"))


def _full(rule: Manifest) -> Manifest:
    made = dict(rule)
    if isinstance(rule.get("to"), str):
        made["to"] = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": rule["to"]}}}]
    if "to" not in rule:
        made["to"] = addresses.NAMED
    if "ports" in rule:
        made["ports"] = [{"protocol": "TCP", "port": port} for port in rule["ports"]]
    return made


EXPOSED: dict[str, Any] = {"type": "Ingress", "hostnames": ["*.a.example", "chat.example.com"]}


class TestExposure:
    def report(self, cluster: Cluster) -> tuple[str, str, str]:
        cluster.report()
        found = cluster.condition("RouteReady")
        assert cluster.status is not None
        return found.status, found.reason, cluster.status.url

    def test_none_is_reached_inside(self) -> None:
        cluster = Cluster(make_bot(DEV)).converge()
        assert self.report(cluster) == ("True", "NotExposed", "http://demo-gateway.team.svc")

    def test_an_ingress_is_ready_when_it_has_an_address(self) -> None:
        cluster = Cluster(make_bot(DEV | {"exposure": EXPOSED})).converge()
        live = cluster.child("Ingress", "demo-gateway")
        assert [rule["host"] for rule in live["spec"]["rules"]] == EXPOSED["hostnames"]
        assert self.report(cluster) == ("False", "RoutePending", "http://chat.example.com")
        live["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        assert self.report(cluster)[:2] == ("True", "RouteAdmitted")
        assert cluster.condition("Ready").status == "True"

    def test_a_certificate_has_to_be_there(self) -> None:
        cluster = Cluster(make_bot(DEV | {"exposure": EXPOSED | {"tlsSecretRef": {"name": "tls"}}})).converge()
        (secret,) = (item for item in cluster.observed.references if item.name == "tls")
        assert self.report(cluster)[2] == "https://chat.example.com"
        cluster.references[secret] = None
        assert self.report(cluster)[:2] == ("False", "SecretNotFound")

    def test_a_route_needs_its_api(self) -> None:
        exposure = {"type": "HTTPRoute", "hostnames": ["chat.example.com"], "parentRefs": [{"name": "web"}]}
        cluster = Cluster(make_bot(STANDARD | {"exposure": exposure})).converge()
        assert self.report(cluster)[:2] == ("False", "ApiNotInstalled")
        cluster.apis = frozenset({"HTTPRoute"})
        cluster.converge()
        assert self.report(cluster)[:2] == ("False", "RoutePending")
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
        parent = {"parentRef": {"name": "web"}, "conditions": [accepted]}
        cluster.child("HTTPRoute", "demo-gateway")["status"] = {"parents": [parent]}
        assert self.report(cluster) == ("True", "RouteAdmitted", "https://chat.example.com")
        accepted |= {"status": "False", "reason": "NotAllowedByListeners"}
        assert self.report(cluster)[:2] == ("False", "RouteRefused")
        assert "NotAllowedByListeners" in cluster.condition("RouteReady").message
