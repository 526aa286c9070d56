"""The documented reasons are the ones there are."""

from pathlib import Path
from typing import get_args

import pytest
from chatbot_operator.reasons import MISSING, REASONS, STUCK, Reason, table
from chatbot_resource.status import ConditionType

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conditions.md"


def test_each_has_a_meaning() -> None:
    assert list(REASONS) == list(Reason)


def test_what_is_missing_needs_somebody() -> None:
    assert MISSING <= STUCK


def test_page_holds_the_table() -> None:
    assert table() in PAGE.read_text(), "write chatbot_operator.reasons.table() into the page"


@pytest.mark.parametrize("condition", get_args(ConditionType))
def test_page_explains_each_condition(condition: str) -> None:
    assert f"| `{condition}` |" in PAGE.read_text()
