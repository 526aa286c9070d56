"""The troubleshooting guide has one entry for each reason that the operator gives, and none for one it does not."""

import re

import pytest
from chatbot_operator.events import Told
from chatbot_operator.reasons import REASONS, STUCK, Reason

from tests.docs.pages import DOCS

GUIDE = DOCS / "guides" / "troubleshooting.md"


def entries() -> dict[str, str]:
    """Text by the reason it is about."""
    parts = re.split(r"^### `(\w+)`$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_one_for_each_reason_in_their_order() -> None:
    assert list(entries()) == [str(reason) for reason in (*Reason, *Told)]


@pytest.mark.parametrize("reason", [*Reason, *Told])
def test_says_what_one_sees(reason: Reason | Told) -> None:
    assert entries()[reason].lstrip().startswith("**You see**")


@pytest.mark.parametrize("reason", Reason)
def test_something_is_to_do_where_somebody_has_to_do_it(reason: Reason) -> None:
    assert bool(REASONS[reason].do) == (reason in STUCK)


@pytest.mark.parametrize("reason", [*(reason for reason in Reason if REASONS[reason].do), *Told])
def test_says_why_and_what_to_do(reason: Reason | Told) -> None:
    text = entries()[reason]
    assert "**Why**" in text
    assert "**Do**" in text
    assert "```console\n$ " in text
