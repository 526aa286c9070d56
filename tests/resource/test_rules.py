"""The models keep every rule of the table; test_crd_server.py holds the API server to the same table."""

from typing import Any

import pytest
from chatbot_resource.model import ChatbotDeployment
from pydantic import ValidationError

from tests.resource.cases import CASES, NAMES_RIGHT, NAMES_WRONG, Case, resource


def read(body: dict[str, Any]) -> ChatbotDeployment:
    return ChatbotDeployment.model_validate(body, by_alias=True, by_name=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
class TestRules:
    def test_taken(self, case: Case) -> None:
        read(resource(case.right))

    def test_refused(self, case: Case) -> None:
        with pytest.raises(ValidationError):
            read(resource(case.wrong))


class TestNames:
    @pytest.mark.parametrize("name", NAMES_RIGHT)
    def test_taken(self, name: str) -> None:
        assert read(resource({}, name)).name == name

    @pytest.mark.parametrize("name", NAMES_WRONG)
    def test_refused(self, name: str) -> None:
        with pytest.raises(ValidationError):
            read(resource({}, name))


def test_whole_quantities_become_text() -> None:
    bot = read(resource({"components": {"chat": {"resources": {"limits": {"cpu": 2}}}}}))
    assert bot.spec.components.chat.resources.limits.cpu == "2"


@pytest.mark.parametrize(
    "fields",
    [
        {"podLabels": {"b" * 64: "x"}},
        {"nodeSelector": {"a..example/zone": "x"}},
        {"tolerations": [{"key": f"{'.'.join(['a' * 63] * 4)}/b", "operator": "Exists"}]},
    ],
    ids=["key of a map", "its prefix", "length of the prefix"],
)
def test_keys_that_the_schema_does_not_judge(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(resource({"defaults": fields}))
