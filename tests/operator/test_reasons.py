"""The documented conditions and reasons are the ones there are."""

from pathlib import Path
from typing import get_args

from chatbot_operator.reasons import AT_REST, MISSING, REASONS, STUCK, Reason
from chatbot_operator.reference import CONDITIONS, page
from chatbot_resource.status import ConditionType

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conditions.md"


def test_each_has_a_meaning() -> None:
    assert list(REASONS) == list(Reason)


def test_what_is_missing_needs_somebody() -> None:
    assert MISSING <= STUCK


def test_what_was_asked_for_needs_nobody() -> None:
    assert not AT_REST & STUCK


def test_each_condition_is_explained() -> None:
    assert tuple(CONDITIONS) == get_args(ConditionType)


def test_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "it is out of date: run `make generate`"
