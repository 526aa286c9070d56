"""Arithmetic that is right, bounded, and never runs what it was given."""

import pytest
from chatbot_chat.tools import ToolError
from chatbot_chat.tools.calculator import Calculator, calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("0.1 + 0.2", "0.3"),
        ("(1299 * 1.19) / 12", "128.8175"),
        ("10 / 3", "3.333333333333333333333333333"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2^10", "1024"),
        ("3 \u00d7 4 \u00f7 2 \u2212 1", "5"),
        ("1_000 * 2 + 0xff", "2255"),
        ("sqrt(2) ** 2", "2"),
        ("log(8, 2)", "3"),
        ("round(2.567, 2)", "2.57"),
        ("max(1, 2, 3) - min(1, 2)", "2"),
        ("sin(pi / 2)", "1"),
        ("factorial(20)", "2432902008176640000"),
        ("2 ** 200", "1.606938044258990275541962092E+60"),
        ("-0.0", "0"),
    ],
)
def test_value(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize("expression", ["9**9**9", "9**9**9**9", "factorial(10**9)", "1e999 * 10", "round(1.5, 10**9)"])
def test_what_is_too_large_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ToolError, match=r"too large|factorial takes"):
        calculate(expression)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("__import__('os').system('id')", "nothing that this calculator knows"),
        ("(1).__class__", "nothing that this calculator knows"),
        ("'a' * 9", "`'a'` is nothing"),
        ("[1 for _ in range(9)]", "nothing that this calculator knows"),
        ("x + 1", "`x` is nothing"),
        ("1 +", "is not an arithmetic expression"),
        ("1 / 0", "divides by zero"),
        ("sqrt(-1)", "no value"),
        ("min()", "no value"),
        ("1" * 501, "longer than 500"),
        ("(" * 250 + "1" + ")" * 250, "longer than 500"),
        ("(" * 249 + "1" + ")" * 249, "not an arithmetic expression"),
    ],
)
def test_anything_else_is_refused(expression: str, says: str) -> None:
    with pytest.raises(ToolError, match=says):
        calculate(expression)


async def test_tool() -> None:
    assert await Calculator().run({"expression": "6 * 7"}) == "42"
