"""The page about running it names every kind of object that the operator makes."""

import re
from collections.abc import Iterator

from chatbot_operator.kinds import OPTIONAL, WRITTEN

from tests.docs.pages import DOCS

HEAD = "| Object | Names |"


def kinds() -> Iterator[str]:
    """In the order of the table; a kind may be there twice."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    for row in text.partition(HEAD)[2].partition("\n\n")[0].splitlines()[2:]:
        yield from re.findall(r"\b[A-Z]\w+", row.split("|")[1])


def test_table_has_the_kinds_that_are_written() -> None:
    assert set(kinds()) == {*WRITTEN, *OPTIONAL}
