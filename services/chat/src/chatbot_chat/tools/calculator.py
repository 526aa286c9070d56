"""Arithmetic, without ever running what was written: the text is parsed, and only what is known here is computed.

Decimals bound the work whatever the numbers are: `9**9**9` is too large at once, instead of filling memory.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Any

from chatbot_chat.tools import ToolError

LONGEST = 500
"""Characters of an expression; a parser's depth is bounded by it too."""
LARGEST_EXPONENT = 999
DIGITS, SPARE_DIGITS = 28, 6
"""Of a result; and those in which the errors of its steps end."""
MOST_FACTORIAL = 400
WRITTEN_OUT = 40
"""Digits up to which a number is not shown as a power of ten."""

_SIGNS = {0xD7: "*", 0xB7: "*", 0xF7: "/", 0x2212: "-"}
"""As books print them."""

Number = Decimal
_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Number(math.floor(a / b)),
    ast.Mod: lambda a, b: a - b * math.floor(a / b),
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_CONSTANTS = {"pi": Number("3.141592653589793238462643383279503"), "e": Number("2.718281828459045235360287471352662")}


def _by_float(function: Callable[[float], float]) -> Callable[[Number], Number]:
    return lambda number: Number(repr(function(float(number))))


def _factorial(number: Number) -> Number:
    if number != int(number) or not 0 <= number <= MOST_FACTORIAL:
        raise ToolError(f"factorial takes a whole number from 0 to {MOST_FACTORIAL}.")
    return +Number(math.factorial(int(number)))


_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "round": lambda number, places=0: Number(round(number, int(places))),
    "floor": lambda number: Number(math.floor(number)),
    "ceil": lambda number: Number(math.ceil(number)),
    "min": min,
    "max": max,
    "sqrt": Number.sqrt,
    "exp": Number.exp,
    "ln": Number.ln,
    "log": lambda number, base=10: number.ln() / Number(base).ln(),
    "log10": Number.log10,
    "log2": lambda number: number.ln() / Number(2).ln(),
    "factorial": _factorial,
    **{name: _by_float(getattr(math, name)) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    **{name: _by_float(getattr(math, name)) for name in ("degrees", "radians")},
}


class Calculator:
    name = "calculator"
    description = (
        "Computes an arithmetic expression exactly, such as `(1299 * 1.19) / 12` or `sqrt(2) ** 3`. Operators + - * / "
        f"// % **, constants {', '.join(_CONSTANTS)}, functions {', '.join(_FUNCTIONS)}. Angles are radians."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"expression": {"type": "string", "maxLength": LONGEST}},
        "required": ["expression"],
        "additionalProperties": False,
    }

    async def run(self, arguments: Mapping[str, Any]) -> str:
        return calculate(arguments["expression"])


def calculate(expression: str) -> str:
    """The value of an expression. Raises `ToolError`."""
    if len(expression) > LONGEST:
        raise ToolError(f"The expression is longer than {LONGEST} characters.")
    text = expression.strip().translate(_SIGNS).replace("^", "**")
    try:
        tree = ast.parse(text, mode="eval")
        with localcontext(Context(DIGITS + SPARE_DIGITS, Emax=LARGEST_EXPONENT, Emin=-LARGEST_EXPONENT)):
            return _shown(_value(tree.body, text))
    except ToolError:
        raise
    except SyntaxError:
        raise ToolError(f"{expression!r} is not an arithmetic expression.") from None
    except ZeroDivisionError:
        raise ToolError("This divides by zero.") from None
    except (DecimalException, ArithmeticError, ValueError, TypeError, MemoryError, RecursionError):
        raise ToolError("This has no value that can be computed: it is undefined, or far too large.") from None


def _value(node: ast.expr, text: str) -> Number:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            written = ast.get_source_segment(text, node) or ""
            return +Number(node.value if isinstance(node.value, int) else written)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, text), _value(right, text))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, text))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(item, text) for item in args))
        case _:
            raise ToolError(f"`{ast.get_source_segment(text, node)}` is nothing that this calculator knows.")


def _shown(number: Number) -> str:
    if not number.is_finite():
        raise ToolError("This has no value that can be computed.")
    if not number:
        return "0"  # also of a negative zero
    number = Context(DIGITS).normalize(number)
    return format(number, "f") if -WRITTEN_OUT < number.adjusted() < WRITTEN_OUT else str(number)
