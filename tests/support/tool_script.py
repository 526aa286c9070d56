"""What the scripted model `agent` does: the question says which tools to call, round by round, as JSON.

`[[["calculator", {"expression": "6*7"}]], [["current_time", {}]]]` calls one tool, then another; `"forever"` calls the
calculator as long as it may. Arguments that are a text are sent as they are. Then it repeats what the tools returned.
"""

import json
from typing import Any

AGAIN = [["calculator", {"expression": "1+1"}]]
USAGE = (11, 7)
"""Tokens of each round."""


def calls(question: str, done: int, *, may_call: bool) -> list[tuple[str, str]]:
    """Names and arguments of the next round; nothing when it is time to answer. `done` counts rounds so far."""
    rounds = json.loads(question)
    wanted: list[Any] = AGAIN if rounds == "forever" else (rounds[done] if done < len(rounds) else [])
    return (
        [(name, given if isinstance(given, str) else json.dumps(given)) for name, given in wanted] if may_call else []
    )


def answer(results: list[Any]) -> str:
    return " & ".join(
        str(result).removeprefix("<tool_result>\n").removesuffix("\n</tool_result>") for result in results
    )
