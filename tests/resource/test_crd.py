"""The CustomResourceDefinition as text: it is up to date, and what a structural schema cannot say is an error."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from chatbot_resource.crd import custom_resource_definition, files
from chatbot_resource.fields import Model
from chatbot_resource.status import Status
from chatbot_resource.structural import NotStructural, structural
from pydantic import Field

ROOT = Path(__file__).parents[2]


def schemas(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below `part` with where it stands."""
    yield path, part
    for name, inner in part.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    if "items" in part:
        yield from schemas(part["items"], f"{path}[]")


def root() -> dict[str, Any]:
    schema: dict[str, Any] = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_what_is_committed_is_what_the_models_say() -> None:
    for file, content in files(ROOT).items():
        assert file.read_text(encoding="utf-8") == content, f"{file} is out of date: run `make generate`"


class TestSchema:
    def test_no_field_passes_unseen(self) -> None:
        for path, schema in schemas(root()):
            assert "x-kubernetes-preserve-unknown-fields" not in schema, path
            assert (
                schema.get("type") != "object"
                or {"properties", "additionalProperties"} & set(schema)
                or (path == ".metadata")
            ), path

    def test_everything_has_bounds(self) -> None:
        for path, schema in schemas(root()["properties"]["spec"]):
            if schema.get("type") == "string":
                assert "maxLength" in schema or "enum" in schema, path
            if schema.get("type") == "array":
                assert "maxItems" in schema, path

    def test_every_object_of_the_spec_is_explained(self) -> None:
        unexplained = [
            path
            for path, schema in schemas(root()["properties"]["spec"])
            if schema.get("type") == "object" and not schema.get("description")
        ]
        assert unexplained == []

    def test_every_rule_says_what_to_do(self) -> None:
        """In a line: what must be, an example, or the next step."""
        told = re.compile(
            r"\bmust\b|such as"
            r"|(: |, or |, and |; )(set|use|add|remove|raise|lower|choose|name|take|leave|put|make)\b"
        )
        said = [rule["message"] for _, schema in schemas(root()) for rule in schema.get("x-kubernetes-validations", ())]
        assert len(set(said)) > 50
        assert [text for text in said if not told.search(text) or len(text) > 180] == []

    def test_what_depends_on_the_profile_has_no_default(self) -> None:
        found = dict(schemas(root()["properties"]["spec"]))
        chat = ".components.chat"
        assert all("default" not in found[f"{chat}.scaling.{name}"] for name in ("mode", "minReplicas", "maxReplicas"))
        assert "default" not in found[".telemetry.sampleRatio"]
        assert found[f"{chat}.drainSeconds"]["default"] == 120

    def test_an_old_status_never_stands_in_the_way(self) -> None:
        assert "required" not in root()["properties"]["status"]
        assert set(root()["properties"]["status"]["properties"]) == {
            field.alias for field in Status.model_fields.values()
        }


def test_the_reference_names_every_field_of_the_spec_once() -> None:
    text = files(ROOT)[ROOT / "docs" / "reference" / "resource.md"]
    assert "| `spec.llm.providers[].timeouts.idle` | text | `30s` |" in text
    assert text.count("`spec.components.gateway.drainSeconds` |") == 1
    assert "As `spec.components.gateway`." in text


class Leaf(Model):
    name: Annotated[str, Field(max_length=3)] = "a"


class Choice(Model):
    value: Leaf | Annotated[str, Field(max_length=3)]


class Unbounded(Model):
    name: str


class UnboundedList(Model):
    leaves: list[Leaf]


class Open(Model):
    labels: dict[str, Annotated[str, Field(max_length=3)]]


class Above(Model):
    count: Annotated[int, Field(gt=0)]


class Recursive(Model):
    inner: "Recursive | None" = None


class Fine(Model):
    """What a reader sees."""

    kind: Literal["only"] = "only"
    leaf: Annotated[Leaf | None, Field(description="This one.")] = None
    other: Leaf = Leaf()


class TestTransform:
    @pytest.mark.parametrize(
        ("model", "says"),
        [
            (Choice, "a choice between 2 kinds"),
            (Unbounded, "maxLength is missing"),
            (UnboundedList, "maxItems is missing"),
            (Open, "maxProperties is missing"),
            (Above, "exclusiveMinimum"),
            (Recursive, "Recursive holds itself"),
        ],
    )
    def test_what_cannot_be_said_is_an_error(self, model: type[Model], says: str) -> None:
        with pytest.raises(NotStructural, match=says):
            structural(model)

    def test_references_constants_and_nulls(self) -> None:
        leaf = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3, "default": "a"}}}
        assert structural(Fine) == {
            "type": "object",
            "description": "What a reader sees.",
            "properties": {
                "kind": {"type": "string", "enum": ["only"], "default": "only"},
                "leaf": leaf | {"description": "This one."},
                "other": leaf,
            },
        }
