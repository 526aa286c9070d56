"""FAQs as the operator reads them. What is right and wrong in one is in tests/contract/test_faqs.py."""

from typing import Any

import pytest
from chatbot_operator import faqs

KEY = "faqs.yaml"


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (None, ""),
        ({}, ""),
        ({"data": {"other": "- ["}}, ""),
        ({"data": {KEY: ""}}, ""),
        ({"data": {KEY: "- {question: Q, answer: A}"}}, ""),
        ({"data": {KEY: "- {question: Q, answer: A}\n- {question: P}"}}, "line 2: entry 2 answer is missing"),
        (
            {"data": {KEY: "- {question: Q, anwser: A}"}},
            "line 1: entry 1 answer is missing (1 more)",
        ),
        ({"binaryData": {KEY: "LSBb"}}, "line 1: not valid YAML: "),
        ({"binaryData": {KEY: "/w=="}}, "not a text in UTF-8"),
        ({"data": {KEY: "- [" + " " * faqs.MOST}}, ""),
    ],
    ids=["no map", "empty map", "no key", "no text", "right", "wrong", "twice wrong", "bytes", "no text", "too long"],
)
async def test_first_mistake(live: dict[str, Any] | None, said: str) -> None:
    found = await faqs.mistake(live, KEY)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_no_more_is_remembered_than_what_was_wrong_with_the_last_texts() -> None:
    for number in range(faqs.KNOWN + 5):
        assert faqs.mistake_at_once({"data": {KEY: f"- {{question: Q{number}}}"}}, KEY).startswith("line 1")
    assert len(faqs._known) == faqs.KNOWN
    assert max(map(len, faqs._known)) == 32, "digests"
