"""Whatever the schema takes becomes objects that the API server takes: specs at random, made from the schema itself."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from chatbot_operator.kinds import GROUPS, OPTIONAL
from chatbot_resource.model import Spec
from chatbot_resource.structural import structural
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.operator.running import World
from tests.operator.simulated import Cluster, make_bot
from tests.support.apiserver import APPLY, ApiServer, path
from tests.support.optional_apis import CLOUD_NATIVE_PG, GATEWAY, KEDA, MONITORING, install, remove

Schema = Mapping[str, Any]
LONG = "a-name-of-as-many-letters-as-it-may-have"


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Whatever a schema allows, without the rules between fields."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from(["250m", "1", "2", "512Mi", "1Gi", "4Gi"])
    match schema["type"]:
        case "object":
            return _maps(schema)
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=2)
        case "integer":
            return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 9), schema.get("minimum", 0) + 9))
        case "boolean":
            return st.booleans()
    pattern = schema.get("pattern", "^[a-z]{1,8}$").removeprefix("^").removesuffix("$")
    low, high = schema.get("minLength", 0), schema["maxLength"]
    texts = st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii"))
    short = texts.filter(lambda text: low <= len(text) <= min(high, 40))
    return st.one_of(short, short.map(lambda text: _longest(text, pattern, high)))


def _longest(text: str, pattern: str, limit: int) -> str:
    """As long as it may be, where the pattern takes a longer one of the kind."""
    for length in (limit, 253, 64, 63):
        longer = text + "a" * (length - len(text))
        if length <= limit and re.fullmatch(pattern, longer, re.ASCII):
            return longer
    return text


def _maps(schema: Schema) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        keys = st.sampled_from(["team", "example.com/cost-center", "zone", f"{'a' * 63}.example/{'b' * 63}"])
        return st.dictionaries(keys, values(schema["additionalProperties"]), max_size=2)
    needed = set(schema.get("required", ()))
    fields = {name: values(field) for name, field in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in needed},
        optional={name: field for name, field in fields.items() if name not in needed},
    )


PARTS = structural(Spec)["properties"]


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A spec whose parts each keep their own rules; a part that does not is left out."""
    chosen = draw(st.lists(st.sampled_from(sorted(PARTS)), unique=True, min_size=1, max_size=6))
    spec: dict[str, Any] = {}
    for name in chosen:
        larger = spec | {name: draw(values(PARTS[name]))}
        if _right(larger):
            spec = larger
    assume(spec)
    return spec


def _right(spec: Mapping[str, Any]) -> bool:
    try:
        make_bot(spec)
    except ValidationError:
        return False
    return True


@pytest.fixture(scope="module")
def api_server(own_api_server: ApiServer) -> ApiServer:
    return own_api_server


@pytest.fixture
def full(world: World) -> Iterator[World]:
    """With every optional kind."""
    for api in (CLOUD_NATIVE_PG, GATEWAY, KEDA, MONITORING):
        install(world.api, api)
    yield world
    for api in (CLOUD_NATIVE_PG, GATEWAY, KEDA, MONITORING):
        remove(world.api, api)


@pytest.mark.timeout(300)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(spec=specs())
def test_every_object_is_taken(full: World, spec: dict[str, Any]) -> None:
    bot = make_bot(spec)
    bot = bot.model_copy(update={"metadata": bot.metadata.model_copy(update={"name": LONG})})
    world, cluster = full, Cluster(bot, apis=frozenset({*OPTIONAL, *GROUPS}))
    for _ in range(8):  # as far as gates open
        cluster.reconcile()
        cluster.settle()
    for (kind, name), item in cluster.manifests().items():
        if kind == "Secret":
            continue
        body = item | {"metadata": _plain(item["metadata"], world.namespace)}
        where = f"{path(kind, world.namespace, name)}?fieldManager=t&force=true&dryRun=All&fieldValidation=Strict"
        try:
            world.api.request("PATCH", where, body, APPLY)
        except httpx2.HTTPStatusError as error:
            pytest.fail(f"{kind} {name} of {spec}: {error}")


def _plain(metadata: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Without the owner and uid, which are not there."""
    kept = {key: value for key, value in metadata.items() if key not in ("ownerReferences", "uid")}
    return kept | {"namespace": namespace}
