"""What a resource may say and what not, rule by rule: one table for the models and for the API server."""

from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A rule, a spec that keeps it and one that breaks it. `says` is part of what the API server answers."""

    rule: str
    right: Spec
    wrong: Spec
    says: str


@dataclass(frozen=True)
class Change:
    """The same of a rule that compares a spec with the one before it."""

    rule: str
    before: Spec
    right: Spec
    wrong: Spec
    says: str


def resource(spec: Spec, name: str = "demo") -> dict[str, Any]:
    return {
        "apiVersion": "chatbot-operator.io/v1alpha1",
        "kind": "ChatbotDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def provider(**fields: Any) -> Spec:
    return {"llm": {"providers": [{"name": "p", "type": "Retrieval"} | fields]}}


def llm(**fields: Any) -> Spec:
    """One provider and one model."""
    given = {
        "providers": [{"name": "p", "type": "Retrieval"}],
        "models": [{"name": "m", "deployments": [{"provider": "p", "model": "x"}]}],
        "default": "m",
    }
    return {"llm": {key: value for key, value in (given | fields).items() if value is not None}}


def cache(**fields: Any) -> Spec:
    return {"llm": {"cache": fields}}


def providers(count: int) -> Spec:
    return llm(providers=[{"name": f"p{number}" if number else "p", "type": "Retrieval"} for number in range(count)])


def models(count: int, **fields: Any) -> Spec:
    """So many models, all alike."""
    deployments = [{"provider": "p", "model": "x"}]
    names = ("m", *(f"m{number}" for number in range(1, count)))
    return llm(models=[{"name": name, "deployments": deployments} | fields for name in names])


def prices(**fields: Any) -> Spec:
    return models(1, prices=fields)


def tools(*enabled: str, **fields: Any) -> Spec:
    return {"tools": {"enabled": [*enabled]} | fields}


def fetching(*hosts: str) -> Spec:
    return tools("http_fetch", httpAllowList=[*hosts])


def mcp(url: str, name: str = "shop") -> Spec:
    return {"tools": {"mcpServers": [{"name": name, "url": url}]}}


def budgets(**fields: Any) -> Spec:
    return {"budgets": fields}


def embeddings(**fields: Any) -> Spec:
    return {"embeddings": fields}


def remote(**fields: Any) -> Spec:
    given = {"type": "OpenAICompatible", "baseURL": "http://e/v1", "model": "m", "dimensions": 8}
    return {"embeddings": {key: value for key, value in (given | fields).items() if value is not None}}


def scaling(**fields: Any) -> Spec:
    return {"components": {"chat": {"scaling": fields}}}


def keda(name: str = "chat", streams: int | None = 50, prometheus: str | None = "http://p:9090", **fields: Any) -> Spec:
    """One component that is scaled by KEDA."""
    written = {"mode": "KEDA", "targets": {"inFlightStreams": streams}} | fields
    return {"components": {name: {"scaling": written}}, "telemetry": {"prometheusURL": prometheus}}


def resources(**fields: Any) -> Spec:
    return {"components": {"chat": {"resources": fields}}}


def drain(**seconds: int) -> Spec:
    return {"components": {name: {"drainSeconds": value} for name, value in seconds.items()}}


def origins(*urls: str) -> Spec:
    return {"exposure": {"cors": {"allowOrigins": list(urls)}}}


def exposure(**fields: Any) -> Spec:
    return {"exposure": fields}


def network(**fields: Any) -> Spec:
    return {"network": fields}


def defaults(**fields: Any) -> Spec:
    return {"defaults": fields}


def deadline(text: str) -> Spec:
    return {"rollout": {"deadline": text}}


def on_nodes(**expression: Any) -> Spec:
    terms = [{"matchExpressions": [{"key": "size"} | expression]}]
    return defaults(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}})


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
ZONE = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]}
KEY = {"name": "s", "key": "k"}
POSTGRES = {
    "mode": "External",
    "external": {"authSecretRef": {"name": "a"}, "conversationSecretRef": {"name": "c"}},
}
REDIS = {"mode": "External", "external": {"secretRef": {"name": "r"}}}


EXTERNAL_STORES = {"postgres": POSTGRES, "redis": REDIS}


def disk(store: str, **fields: Any) -> Spec:
    return {"stores": {store: {"storage": fields}}}


def disks(store: str) -> tuple[Change, ...]:
    """What may become of the disk of a store, see chatbot_resource.disks."""
    dev, shrinks, other = {"profile": "Dev"}, f"stores.{store}: a disk can grow, but not shrink", "cannot be changed"
    large, small = disk(store, size="20Gi"), disk(store, size="5Gi")
    a, b = disk(store, className="a"), disk(store, className="b")
    return tuple(
        Change(f"{store}: {rule}", before, right, wrong, says)
        for rule, before, right, wrong, says in (
            ("it grows", large, disk(store, size="20.5Gi"), disk(store, size="19Gi"), shrinks),
            ("or stays", large, disk(store, size="20480Mi"), disk(store, size="20479Mi"), shrinks),
            ("a number is a size", disk(store, size=2**30), disk(store, size="1Gi"), disk(store, size="1G"), shrinks),
            ("its size is not removed", large, large, disk(store), shrinks),
            ("nor is all of it", large, large, {"stores": {}}, shrinks),
            ("nor are the stores", large, large, {}, shrinks),
            ("unless that is no less", small, {}, disk(store, size="4Gi"), shrinks),
            ("which depends on the profile", dev | small, dev | small, dev, shrinks),
            ("what is unwritten is 10Gi", {}, disk(store, size="10Gi"), disk(store, size="9Gi"), shrinks),
            ("or 1Gi", dev, dev | disk(store, size="1Gi"), dev | disk(store, size="1023Mi"), shrinks),
            ("a smaller profile keeps it", {}, dev, dev | disk(store, size="9Gi"), shrinks),
            ("it keeps its class", a, disk(store, className="a", size="10Gi"), b, other),
            ("that is not removed", a, a, {}, other),
            ("nor chosen later", {}, disk(store, size="10Gi"), a, other),
        )
    )


def asleep(mode: str, **storage: Any) -> Spec:
    return {"mode": "Hibernated", "stores": {"postgres": {"mode": mode, "storage": storage}}}


def vectors(**fields: Any) -> Spec:
    return {"stores": {"vectors": fields}}


def production(**stores: Any) -> Spec:
    return {"profile": "Production", "stores": stores}


CASES: tuple[Case, ...] = (
    Case("profile is one of three", {"profile": "Dev"}, {"profile": "dev"}, "supported values"),
    *(
        Case(
            f"a time is longer than nothing, not {wrong}",
            provider(timeouts={"idle": right}),
            provider(timeouts={"idle": wrong}),
            "longer than nothing",
        )
        for right, wrong in (("1ms", "0s"), ("0h1m", "0h0m"))
    ),
    Case("a time has a unit", provider(timeouts={"idle": "1m30s"}), provider(timeouts={"idle": "90"}), "should match"),
    *(
        Case(f"an address can be opened: {wrong[:20]}", provider(baseURL=right), provider(baseURL=wrong), says)
        for right, wrong, says in (
            ("http://[::1]:1", "http://a:0", "can be opened"),
            ("https://h:65535/v1", "http://a:65536", "can be opened"),
            ("https://user:pass@h/v1?x=%20#y", "http://h/%zz", "should match"),
            ("http://h", "http://a:b", "should match"),
            ("http://h/", "http://:80", "should match"),
            ("http://h/x", "ftp://h", "should match"),
            ("http://xn--e1afmkfd.example", "http://é.example", "should match"),
            ("http://h/~a", "http://h/a b", "should match"),
            ("http://h/" + "a" * 2039, "http://h/" + "a" * 2040, "may not be more than 2048"),
            ("http://[1::2]", "http://[1::2", "should match"),
        )
    ),
    Case("a tool has a name that models can call", tools("my_tool-2"), tools("my tool"), "should match"),
    Case("http_fetch needs hosts", fetching("example.com"), tools("http_fetch"), "name some in httpAllowList"),
    Case("a list of no host is none", fetching("*.example.com"), fetching(), "name some in httpAllowList"),
    *(
        Case(f"{wrong} is no host of the internet", fetching("a.example.com"), fetching(wrong), "should match")
        for wrong in ("localhost", "10.0.0.1", "*", "*.com", "https://example.com", "example.com:8443", "Example.com")
    ),
    *(
        Case(f"an MCP server is asked safely: {wrong}", mcp(right), mcp(wrong), "an MCP server's url must be https")
        for right, wrong in [
            ("https://tools.example.com/mcp", "http://tools.example.com/mcp"),
            ("http://tools:8000/mcp", "http://10.0.0.1/mcp"),
            ("http://tools.team-a.svc.cluster.local/mcp", "http://tools.svc.example.com/mcp"),
            ("http://127.0.0.1:8000/mcp", "https://user:password@tools.example.com/mcp"),
        ]
    ),
    Case("an MCP server has a short name", mcp("http://t", name="a" * 24), mcp("http://t", name="a" * 25), "24"),
    Case(
        "MCP servers have names of their own",
        {"tools": {"mcpServers": [{"name": name, "url": "http://t"} for name in ("a", "b")]}},
        {"tools": {"mcpServers": [{"name": name, "url": "http://t"} for name in ("a", "a")]}},
        "Duplicate value",
    ),
    Case(
        "weather is asked at an address",
        {"tools": {"weather": {"baseURL": "http://weather:8080/v1", "geocodingURL": "https://g.example/v1"}}},
        {"tools": {"weather": {"baseURL": "weather:8080"}}},
        "should match",
    ),
    Case("Local embeddings have 384 dimensions", embeddings(dimensions=384), embeddings(dimensions=383), "have 384"),
    Case("also when the type is written", embeddings(type="Local"), embeddings(type="Local", dimensions=8), "have 384"),
    *(
        Case(f"OpenAICompatible embeddings need {name}", remote(), remote(**{name: None}), "need baseURL")
        for name in ("baseURL", "model", "dimensions")
    ),
    Case("dimensions have bounds", remote(dimensions=4096), remote(dimensions=4097), "4096"),
    Case("Fixed needs replicas", scaling(mode="Fixed", replicas=1), scaling(mode="Fixed"), "Fixed needs it"),
    Case("replicas needs Fixed", scaling(mode="HPA"), scaling(mode="HPA", replicas=1), "is for mode Fixed"),
    Case("replicas alone is not enough", scaling(), scaling(replicas=1), "is for mode Fixed"),
    Case(
        "minReplicas ≤ maxReplicas",
        scaling(minReplicas=3, maxReplicas=3),
        scaling(minReplicas=4, maxReplicas=3),
        "must not exceed",
    ),
    Case(
        "bounds are for HPA and KEDA",
        scaling(mode="HPA", minReplicas=2),
        scaling(mode="External", minReplicas=2),
        "are for modes HPA and KEDA",
    ),
    Case(
        "not for Fixed",
        scaling(mode="KEDA", maxReplicas=2),
        scaling(mode="Fixed", replicas=1, maxReplicas=2),
        "are for modes HPA and KEDA",
    ),
    *(
        Case(
            f"no pod of {name} is for KEDA, not for {wrong or 'a mode that is not written'}",
            keda(name, minReplicas=0),
            keda(name, minReplicas=0, mode=wrong),
            "minReplicas 0 needs mode KEDA",
        )
        for name, wrong in (("chat", "HPA"), ("auth", None), ("conversation", "HPA"))
    ),
    Case(
        "and for what wakes it",
        keda(minReplicas=0),
        keda(minReplicas=0, streams=None),
        "minReplicas 0 needs targets.inFlightStreams",
    ),
    Case(
        "a cpu alone keeps one", keda(streams=None, minReplicas=1), keda(minReplicas=-1), "greater than or equal to 0"
    ),
    Case(
        "there is always a gateway",
        keda("gateway", minReplicas=1),
        keda("gateway", minReplicas=0),
        "gateway.scaling.minReplicas must be at least 1",
    ),
    Case("KEDA counts streams in Prometheus", keda(), keda(prometheus=None), "needs telemetry.prometheusURL"),
    Case("also for auth", keda("auth"), keda("auth", prometheus=None), "needs telemetry.prometheusURL"),
    Case(
        "KEDA by cpu needs no Prometheus",
        keda(streams=None, prometheus=None),
        keda("gateway", prometheus=None),
        "needs telemetry.prometheusURL",
    ),
    Case(
        "a Prometheus has an address",
        {"telemetry": {"prometheusURL": "http://prometheus.monitoring.svc:9090"}},
        {"telemetry": {"prometheusURL": "prometheus:9090"}},
        "should match",
    ),
    Case(
        "streams are some",
        scaling(targets={"inFlightStreams": 1}),
        scaling(targets={"inFlightStreams": 0}),
        "greater than or equal to 1",
    ),
    *(
        Case(
            f"an HPA knows no streams of {name}",
            {"components": {name: {"scaling": {"mode": "External", "targets": {"inFlightStreams": 5}}}}},
            {"components": {name: {"scaling": {"mode": mode, "targets": {"inFlightStreams": 5}}}}},
            "with mode HPA is for chat",
        )
        for name, mode in (("gateway", "HPA"), ("auth", None), ("conversation", "HPA"))
    ),
    Case("External needs nothing", scaling(mode="External"), scaling(mode="external"), "supported values"),
    Case(
        "a target is a percentage",
        scaling(targets={"cpuPercent": 100}),
        scaling(targets={"cpuPercent": 101}),
        "less than or equal to 100",
    ),
    Case(
        "a window is within an hour",
        scaling(behavior={"scaleDown": {"stabilizationWindowSeconds": 0}}),
        scaling(behavior={"scaleDown": {"stabilizationWindowSeconds": 3601}}),
        "3600",
    ),
    Case("mode is one of three", {"mode": "Hibernated"}, {"mode": "Off"}, "supported values"),
    Case(
        "a disruption takes one pod at least",
        {"components": {"chat": {"pdb": {"maxUnavailable": 2}}}},
        {"components": {"chat": {"pdb": {"maxUnavailable": 0}}}},
        "greater than or equal to 1",
    ),
    Case(
        "labels of pods are not the operator's",
        defaults(podLabels={"team": "a", "example.com/cost-center": "7"}),
        defaults(podLabels={"app.kubernetes.io/name": "x"}),
        "are the operator's own",
    ),
    Case(
        "nor are annotations",
        defaults(podAnnotations={"example.com/x": "any text {}"}),
        defaults(podAnnotations={"chatbot-operator.io/x": "y"}),
        "are the operator's own",
    ),
    Case(
        "a label's value is of ASCII",
        defaults(podLabels={"team": "harbour"}),
        defaults(podLabels={"team": "häfen"}),
        "should match",
    ),
    Case(
        "nodes may be chosen by any label",
        defaults(nodeSelector={"app.kubernetes.io/x": "y", "kubernetes.io/os": "linux"}),
        defaults(nodeSelector={"kubernetes.io/os": "a b"}),
        "should match",
    ),
    Case(
        "a label's name is no longer than Kubernetes takes",
        defaults(tolerations=[{"key": f"{'a' * 63}.example/{'b' * 63}", "operator": "Exists"}]),
        defaults(tolerations=[{"key": "b" * 64, "operator": "Exists"}]),
        "should match",
    ),
    Case(
        "nor is its prefix anything but a domain",
        defaults(topologySpread=[{"topologyKey": "a-b.example/zone"}]),
        defaults(topologySpread=[{"topologyKey": "a..example/zone"}]),
        "should match",
    ),
    Case(
        "variables are not the operator's",
        defaults(env=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "EMPTY"}]),
        defaults(env=[{"name": "CHATBOT_CONFIG", "value": "x"}]),
        "are the operator's own",
    ),
    Case(
        "variables are unique",
        defaults(env=[{"name": "A"}, {"name": "B"}]),
        defaults(env=[{"name": "A"}] * 2),
        "Duplicate value",
    ),
    Case(
        "affinity is spelled right",
        defaults(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ZONE]}]}}}),
        defaults(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerm": [{"matchExpressions": [ZONE]}]}}}),
        "unknown field",
    ),
    Case(
        "a weight is within its bounds",
        defaults(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 100, "podAffinityTerm": {"topologyKey": "a"}}]}}),
        defaults(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}]}}),
        "greater than or equal to 1",
    ),
    Case(
        "a toleration has a known effect",
        defaults(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]),
        defaults(tolerations=[{"key": "gpu", "effect": "Never"}]),
        "supported values",
    ),
    *(
        Case(f"Production forbids {name}", production(**EXTERNAL_STORES), production(**EXTERNAL_STORES) | wrong, says)
        for name, wrong, says in (("an open network", {"network": {"policy": "Off"}}, "needs network.policy Enforce"),)
    ),
    Case(
        "an Ingress has a host name",
        exposure(type="Ingress", hostnames=["chat.example.com", "*.chat.example.com"]),
        exposure(type="Ingress"),
        "need at least one",
    ),
    Case("and None has none", exposure(type="None"), exposure(hostnames=["chat.example.com"]), "need at least one"),
    Case(
        "a host name is one",
        exposure(type="Ingress", hostnames=["a.b"]),
        exposure(type="Ingress", hostnames=["https://a.b"]),
        "should match",
    ),
    Case(
        "an HTTPRoute has a parent",
        exposure(type="HTTPRoute", hostnames=["a.b"], parentRefs=[{"name": "web", "namespace": "infra"}]),
        exposure(type="HTTPRoute", hostnames=["a.b"]),
        "needs at least one",
    ),
    Case(
        "and an Ingress none",
        exposure(type="Ingress", hostnames=["a.b"], className="traefik", tlsSecretRef={"name": "t"}),
        exposure(type="Ingress", hostnames=["a.b"], parentRefs=[{"name": "web"}]),
        "parentRefs are for type HTTPRoute",
    ),
    Case(
        "a class is an Ingress's",
        exposure(type="Ingress", hostnames=["a.b"], className="traefik"),
        exposure(className="traefik"),
        "className is for type Ingress",
    ),
    Case(
        "a certificate too",
        exposure(type="Ingress", hostnames=["a.b"], tlsSecretRef={"name": "t"}),
        exposure(type="HTTPRoute", hostnames=["a.b"], parentRefs=[{"name": "w"}], tlsSecretRef={"name": "t"}),
        "tlsSecretRef is for type Ingress",
    ),
    *(
        Case(
            f"a network is one, not {wrong}",
            exposure(trustedProxies=[right]),
            exposure(trustedProxies=[wrong]),
            says,
        )
        for right, wrong, says in (
            ("10.0.0.0/8", "10.0.0.1/8", "address of a network"),
            ("fd00::/8", "10.0.0.0/33", "address of a network"),
            ("10.1.2.3/32", "10.0.0.0", "should match"),
        )
    ),
    Case(
        "a peer is one kind",
        network(egress=[{"to": [{"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}]}]),
        network(egress=[{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
        "a peer is either",
    ),
    Case(
        "a peer is something",
        network(metricsFrom=[{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]),
        network(metricsFrom=[{}]),
        "a peer is either",
    ),
    Case(
        "ports go forward",
        network(egress=[{"ports": [{"port": 1, "endPort": 1}]}]),
        network(egress=[{"ports": [{"port": 2, "endPort": 1}]}]),
        "endPort must not be less",
    ),
    Case(
        "keys overlap",
        {"auth": {"signingKeys": {"rotateEvery": "48h", "overlap": "1h"}}},
        {"auth": {"signingKeys": {"rotateEvery": "24h"}}},
        "shorter than rotateEvery",
    ),
    Case(
        "for longer than a token lives",
        {"auth": {"signingKeys": {"overlap": "60m"}}},
        {"auth": {"signingKeys": {"overlap": "59m"}}},
        "at least 1h",
    ),
    Case("a deadline is a time", {"rollout": {"deadline": "90s"}}, {"rollout": {"deadline": "90"}}, "should match"),
    Case(
        "a disk has a size",
        {"stores": {"postgres": {"storage": {"size": "20Gi", "className": "fast"}}}},
        {"stores": {"postgres": {"storage": {"size": "20GB"}}}},
        "should match",
    ),
    Case(
        "external Weaviate needs External",
        {"stores": {"vectors": {"mode": "External", "external": {"url": "https://w.example", "secretRef": KEY}}}},
        {"stores": {"vectors": {"external": {"url": "https://w.example"}}}},
        "external is for mode External",
    ),
    Case(
        "PGVector has no Weaviate",
        {"stores": {"vectors": {"type": "PGVector"}}},
        {"stores": {"vectors": {"type": "PGVector", "mode": "External", "external": {"url": "https://w.example"}}}},
        "PGVector keeps vectors in Postgres",
    ),
    *(
        Case(
            f"a toleration says what it means: {wrong}",
            defaults(tolerations=[right]),
            defaults(tolerations=[wrong]),
            says,
        )
        for right, wrong, says in (
            ({"operator": "Exists"}, {}, "set operator to Exists"),
            ({"key": "a", "value": "b"}, {"key": "a", "operator": "Exists", "value": "b"}, "has no value"),
            (
                {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0},
                {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5},
                "is for effect NoExecute",
            ),
        )
    ),
    *(
        Case(f"nodes are compared rightly: {wrong}", on_nodes(**right), on_nodes(**wrong), says)
        for right, wrong, says in (
            ({"operator": "Exists"}, {"operator": "Exists", "values": ["a"]}, "need values"),
            ({"operator": "In", "values": ["a"]}, {"operator": "In"}, "need values"),
            ({"operator": "Gt", "values": ["3"]}, {"operator": "Gt", "values": ["a"]}, "a whole number"),
        )
    ),
    Case(
        "pods are compared rightly",
        network(metricsFrom=[{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}]),
        network(metricsFrom=[{"podSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn"}]}}]),
        "need values",
    ),
    Case("a deadline is within a day", deadline("24h"), deadline("25h"), "from 1s to 24h"),
    Case("at least one pod", scaling(minReplicas=1), scaling(minReplicas=0), "minReplicas 0 needs mode KEDA"),
    Case(
        "a request is within its limit",
        resources(requests={"cpu": "1500m", "memory": "1Gi"}, limits={"cpu": 2, "memory": "1100M"}),
        resources(requests={"cpu": "2001m"}, limits={"cpu": 2}),
        "requests.cpu must not exceed",
    ),
    Case(
        "also of memory",
        resources(requests={"memory": "1Gi"}),
        resources(requests={"memory": "1Gi"}, limits={"memory": "1G"}),
        "requests.memory must not exceed",
    ),
    Case(
        "a quantity has a known unit",
        resources(limits={"memory": "1.5Gi"}),
        resources(limits={"memory": "1GB"}),
        "should match",
    ),
    Case("and is never less than nothing", resources(requests={"cpu": 0}), resources(requests={"cpu": -1}), "to 0"),
    Case("a disk has room", disk("postgres", size="1Mi"), disk("postgres", size="0Gi"), "more than nothing"),
    Case("also as a number", disk("vectors", size=2**30), disk("vectors", size=0), "more than nothing"),
    Case("a quantity is text or whole", resources(limits={"cpu": "0.5"}), resources(limits={"cpu": 0.5}), "cpu"),
    Case(
        "gateway drains as long as chat",
        drain(gateway=150, chat=150),
        drain(gateway=150, chat=151),
        "gateway.drainSeconds must be",
    ),
    Case("chat's drain meets gateway's default", drain(chat=120), drain(chat=121), "gateway.drainSeconds must be"),
    Case(
        "gateway's drain meets chat's default", drain(gateway=120), drain(gateway=119), "gateway.drainSeconds must be"
    ),
    Case("a drain within an hour", drain(auth=3600), drain(auth=3601), "3600"),
    Case("default names a model", llm(), llm(default="x"), "default must name one of models"),
    Case("default needs models", provider(), {"llm": {"default": "m"}}, "default must name one of models"),
    Case("models need default", llm(), llm(default=None), "default must name one of models"),
    Case("fallbacks name models", llm(fallbacks=["m"]), llm(fallbacks=["m", "x"]), "each of fallbacks"),
    Case("fallbacks need models", {"llm": {"fallbacks": []}}, {"llm": {"fallbacks": ["m"]}}, "each of fallbacks"),
    Case(
        "deployments name providers",
        llm(),
        llm(models=[{"name": "m", "deployments": [{"provider": "q", "model": "x"}]}]),
        "must name one of providers",
    ),
    Case("models need providers", llm(), llm(providers=None), "must name one of providers"),
    Case("a model is deployed", llm(), llm(models=[{"name": "m", "deployments": []}]), "at least 1 item"),
    Case(
        "names of providers are unique",
        {"llm": {"providers": [{"name": "p", "type": "Retrieval"}, {"name": "q", "type": "Retrieval"}]}},
        {"llm": {"providers": [{"name": "p", "type": "Retrieval"}] * 2}},
        "Duplicate value",
    ),
    Case(
        "names of models are unique",
        llm(),
        llm(models=[{"name": "m", "deployments": [{"provider": "p", "model": "x"}]}] * 2),
        "Duplicate value",
    ),
    Case(
        "one prompt per language",
        {"llm": {"prompts": [{"language": "en", "ref": KEY}, {"language": "pt-BR", "ref": KEY}]}},
        {"llm": {"prompts": [{"language": "en", "ref": KEY}] * 2}},
        "Duplicate value",
    ),
    *(
        Case(f"cache.{field} is {right}, not {wrong}", cache(**{field: right}), cache(**{field: wrong}), says)
        for field, right, wrong, says in (
            ("mode", "Semantic", "On", "supported values"),
            ("ttl", "1s", "999ms", "from 1s to 24h"),
            ("ttl", "24h", "24h1s", "from 1s to 24h"),
            ("similarity", "0.01", "0.0", "similarity must be above 0"),
            ("similarity", "1", "1.1", "should match"),
        )
    ),
    Case(
        "variants name models",
        llm(variants=[{"name": "plain"}, {"name": "b", "weight": 3, "model": "m"}]),
        llm(variants=[{"name": "plain"}, {"name": "b", "weight": 3, "model": "n"}]),
        "model of each of variants must name one of models",
    ),
    Case(
        "variants name models, where there are none",
        {"llm": {"variants": [{"name": "a"}]}},
        {"llm": {"variants": [{"name": "a", "model": "m"}]}},
        "model of each of variants must name one of models",
    ),
    Case(
        "names of variants are unique",
        llm(variants=[{"name": "a"}, {"name": "b"}]),
        llm(variants=[{"name": "a"}] * 2),
        "Duplicate value",
    ),
    Case(
        "one prompt per language of a variant",
        {"llm": {"variants": [{"name": "a", "prompts": [{"language": "en", "ref": KEY}]}]}},
        {"llm": {"variants": [{"name": "a", "prompts": [{"language": "en", "ref": KEY}] * 2}]}},
        "Duplicate value",
    ),
    Case(
        "a variant has users",
        llm(variants=[{"name": "a", "weight": 1}]),
        llm(variants=[{"name": "a", "weight": 0}]),
        "greater than or equal to 1",
    ),
    *(
        Case(
            f"{kind} needs a key",
            provider(type=kind, apiKeySecretRef=KEY),
            provider(type=kind),
            "needs apiKeySecretRef",
        )
        for kind in ("OpenAI", "Anthropic", "Gemini", "Mistral")
    ),
    *(
        Case(f"{kind} needs an address", provider(type=kind, baseURL="http://h"), provider(type=kind), "needs baseURL")
        for kind in ("OpenAICompatible", "Ollama")
    ),
    *(
        Case(f"a price of {right}, not {wrong}", prices(input=right, output="0"), prices(input=wrong, output="0"), says)
        for right, wrong, says in (
            ("0.25", "0,25", "should match"),
            ("3", "-3", "should match"),
            ("1.5", 1.5, "must be of type string"),
        )
    ),
    Case("prices are two", prices(input="3", output="15"), prices(input="3"), "Required value"),
    Case(
        "a day within its month",
        budgets(perUser={"tokensPerDay": 5, "tokensPerMonth": 5}, total={"costPerDay": "0.5", "costPerMonth": "10"}),
        budgets(perUser={"tokensPerDay": 6, "tokensPerMonth": 5}),
        "tokensPerDay must not exceed tokensPerMonth",
    ),
    Case(
        "a day's cost within its month's",
        budgets(total={"costPerDay": "9.999999", "costPerMonth": "10"}),
        budgets(total={"costPerDay": "10.000001", "costPerMonth": "10"}),
        "costPerDay must not exceed costPerMonth",
    ),
    Case("a budget has room", budgets(total={"tokensPerDay": 1}), budgets(total={"tokensPerDay": 0}), "greater than"),
    Case("no cost at all", budgets(total={"costPerDay": "0"}), budgets(total={"costPerDay": "-1"}), "should match"),
    Case(
        "a cost has six decimals",
        budgets(perUser={"costPerMonth": "999999999.000001"}),
        budgets(perUser={"costPerMonth": "0.0000001"}),
        "should match",
    ),
    Case("a currency is a code", budgets(currency="EUR"), budgets(currency="Euro"), "currency"),
    *(
        Case(
            f"{whose}.{cost} needs prices",
            prices(input="0", output="0") | budgets(**{whose: {cost: "1"}}),
            llm() | budgets(**{whose: {cost: "1"}}),
            "needs prices of every model",
        )
        for whose in ("perUser", "perKey", "total")
        for cost in ("costPerDay", "costPerMonth")
    ),
    Case(
        "rules are for Rules",
        {"moderation": {"provider": "Rules", "rulesRef": KEY}},
        {"moderation": {"rulesRef": KEY}},
        "rulesRef is for provider Rules",
    ),
    Case(
        "moderation by OpenAI needs OpenAI",
        provider(type="OpenAI", apiKeySecretRef=KEY) | {"moderation": {"provider": "OpenAI"}},
        provider(type="Anthropic", apiKeySecretRef=KEY) | {"moderation": {"provider": "OpenAI"}},
        "needs a provider of type OpenAI",
    ),
    Case(
        "also where no provider is written",
        {"moderation": {"provider": "Rules", "input": "Flag", "output": "Off"}},
        {"moderation": {"provider": "OpenAI"}},
        "needs a provider of type OpenAI",
    ),
    Case(
        "what is flagged is blocked, or only flagged",
        {"moderation": {"output": "Flag"}},
        {"moderation": {"output": "Warn"}},
        "supported values",
    ),
    Case("sixteen providers", providers(16), providers(17), "at most 16"),
    Case("thirty-two models", models(32), models(33), "at most 32"),
    Case(
        "a type of provider is one of eight",
        provider(type="Fake"),
        provider(type="Bedrock", apiKeySecretRef=KEY),
        "supported values",
    ),
    Case(
        "Production forbids Fake",
        production(**EXTERNAL_STORES) | provider(),
        production(**EXTERNAL_STORES) | provider(type="Fake"),
        "Production needs providers that are not of type Fake",
    ),
    Case(
        "External Postgres needs external",
        {"stores": {"postgres": POSTGRES}},
        {"stores": {"postgres": {"mode": "External"}}},
        "External needs it",
    ),
    Case(
        "external Postgres needs External",
        {"stores": {"postgres": {"mode": "Dev"}}},
        {"stores": {"postgres": POSTGRES | {"mode": "Dev"}}},
        "external is for mode External",
    ),
    Case(
        "Dev is the default of Postgres",
        {"stores": {"postgres": {}}},
        {"stores": {"postgres": {"external": POSTGRES["external"]}}},
        "external is for mode External",
    ),
    Case(
        "External Redis needs external",
        {"stores": {"redis": REDIS}},
        {"stores": {"redis": {"mode": "External"}}},
        "External needs it",
    ),
    Case(
        "external Redis needs External",
        {"stores": {"redis": {}}},
        {"stores": {"redis": REDIS | {"mode": "Dev"}}},
        "external is for mode External",
    ),
    Case(
        "Redis is one server or found by sentinels",
        {"stores": {"redis": REDIS | {"external": {"topology": "Sentinel", "secretRef": {"name": "r"}}}}},
        {"stores": {"redis": REDIS | {"external": {"topology": "Cluster", "secretRef": {"name": "r"}}}}},
        "supported values",
    ),
    Case(
        "Production forbids Postgres of mode Dev",
        production(postgres=POSTGRES, redis=REDIS),
        production(postgres={"mode": "Dev"}, redis=REDIS),
        "Production needs stores that are not of mode Dev",
    ),
    Case(
        "Production takes Postgres that CloudNativePG runs",
        production(postgres={"mode": "CloudNativePG"}, redis=REDIS),
        production(postgres={"mode": "CloudNativePG", "external": POSTGRES["external"]}, redis=REDIS),
        "external is for mode External",
    ),
    Case(
        "Production forbids Redis of mode Dev",
        production(postgres=POSTGRES, redis=REDIS),
        production(postgres=POSTGRES, redis={"mode": "Dev"}),
        "Production needs stores that are not of mode Dev",
    ),
    Case(
        "Production forbids Redis that is not written",
        production(postgres=POSTGRES, redis=REDIS),
        production(postgres=POSTGRES),
        "Production needs stores that are not of mode Dev",
    ),
    Case(
        "Production forbids stores that are not written",
        production(postgres=POSTGRES, redis=REDIS),
        {"profile": "Production"},
        "Production needs stores that are not of mode Dev",
    ),
    *(
        Case(f"an origin is not {wrong}", origins("https://example.com", right), origins(wrong), says)
        for right, wrong, says in (
            ("http://localhost:5173", "https://example.com/", "should match"),
            ("http://[::1]:3000", "https://*.example.com", "should match"),
            ("https://a.example", "https://example.com?x", "should match"),
            ("https://a.example", "null", "should match"),
            ("https://a.example:65535", "https://example.com:70000", "can be opened"),
        )
    ),
    Case("a version is a tag", {"version": "0.1"}, {"version": "0.1/2"}, "should match"),
    Case("a version is text", {"version": "1"}, {"version": 1}, "must be of type string"),
    Case(
        "an image is a reference",
        {"images": {"chat": "h:5000/a/chat@sha256:" + "0" * 64}},
        {"images": {"chat": "a chat"}},
        "should match",
    ),
    Case(
        "an image is of a known part", {"images": {"weaviate": "w:1"}}, {"images": {"worker": "w:1"}}, "unknown field"
    ),
    Case(
        "a ratio is quoted and at most 1",
        {"telemetry": {"sampleRatio": "1.0"}},
        {"telemetry": {"sampleRatio": "1.1"}},
        "should match",
    ),
    Case(
        "a ratio is text",
        {"telemetry": {"sampleRatio": "0"}},
        {"telemetry": {"sampleRatio": 0}},
        "must be of type string",
    ),
    Case(
        "a switch is Auto or Off",
        {"telemetry": {"monitors": "Off", "rules": "Auto", "dashboards": "Off"}},
        {"telemetry": {"rules": "On"}},
        "Unsupported value",
    ),
    Case(
        "availability is a percentage as text",
        {"slo": {"availability": "99.999"}},
        {"slo": {"availability": "99,9"}},
        "should match",
    ),
    Case("and promises nearly all", {"slo": {"availability": "90"}}, {"slo": {"availability": "100"}}, "should match"),
    Case(
        "a first token is measured up to a minute",
        {"slo": {"firstTokenP95": "60s"}},
        {"slo": {"firstTokenP95": "61s"}},
        "slo.firstTokenP95 must be from 50ms to 60s",
    ),
    Case(
        "and from 50 milliseconds",
        {"slo": {"firstTokenP95": "50ms"}},
        {"slo": {"firstTokenP95": "49ms"}},
        "slo.firstTokenP95 must be from 50ms to 60s",
    ),
    Case(
        "limits are positive", {"limits": {"perMinute": 1}}, {"limits": {"perMinute": 0}}, "greater than or equal to 1"
    ),
    Case("an unknown field is refused", {"limits": {}}, {"limits": {"perMinut": 3}}, "unknown field"),
    Case("also at the top", {}, {"profil": "Dev"}, "unknown field"),
    Case("also in a list", provider(), provider(url="http://h"), "unknown field"),
    Case("a number is not text", {"limits": {"perHour": 3}}, {"limits": {"perHour": "3"}}, "must be of type integer"),
    Case(
        "a map is not a text",
        {"stores": {"redis": REDIS}},
        {"stores": {"redis": {"mode": "External", "external": {"secretRef": "r"}}}},
        "must be of type object",
    ),
    Case(
        "a key reference has a key",
        {"knowledge": {"faqRef": KEY}},
        {"knowledge": {"faqRef": {"name": "s"}}},
        "Required value",
    ),
    Case(
        "null is the same as unwritten",
        {"llm": {"default": None}, "embeddings": {"baseURL": None}, "telemetry": {"otlp": None}},
        {"limits": {"perMinute": []}},
        "must be of type integer",
    ),
)

_LARGE, _SMALL = {"size": "20Gi", "className": "a"}, {"size": "5Gi", "className": "b"}

CHANGES: tuple[Change, ...] = (
    *disks("postgres"),
    *disks("vectors"),
    Change(
        "another Postgres has a disk of its own",
        asleep("Dev", **_LARGE),
        asleep("CloudNativePG", **_SMALL),
        asleep("Dev", **_SMALL),
        "stores.postgres: a disk can grow",
    ),
    *(
        Change(
            f"so does a Weaviate that comes after {former}",
            vectors(storage=_LARGE),
            former,
            vectors(storage=_SMALL),
            "stores.vectors: a disk can grow",
        )
        for former in (
            vectors(type="PGVector", storage=_SMALL),
            vectors(mode="External", external={"url": "http://w"}, storage=_SMALL),
        )
    ),
    Change(
        "the mode of Postgres changes while the bot hibernates",
        {"mode": "Hibernated"},
        asleep("CloudNativePG"),
        asleep("CloudNativePG") | {"mode": "Active"},
        "stores.postgres.mode changes only while mode is Hibernated",
    ),
)

NAMES_RIGHT = ("a", "demo", "a-1", "a" * 40)
NAMES_WRONG = ("1a", "a.b", "a" * 41)
"""Names that Kubernetes itself takes: those it refuses are none of our rules' business."""
