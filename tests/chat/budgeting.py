"""What tests of budgets ask with, and what they are held to."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from chatbot_chat.providers import Message, ModelRequest
from chatbot_chat.settings import BudgetsSettings, ModelSettings
from chatbot_common.identity import ApiKey
from chatbot_common.ids import uuid7

NONE = {"tokens_per_day": None, "tokens_per_month": None, "cost_per_day": None, "cost_per_month": None}
Clock = Callable[[], datetime]


def settings(
    per_user: dict[str, int] | None = None, total: dict[str, int] | None = None, per_key: dict[str, int] | None = None
) -> BudgetsSettings:
    told = {"per_user": NONE | (per_user or {}), "total": NONE | (total or {}), "currency": "EUR"}
    return BudgetsSettings.model_validate(told | ({"per_key": NONE | per_key} if per_key else {}))


def api_key(**budget: int) -> ApiKey:
    return ApiKey(uuid7(), "ci", frozenset(("chat",)), budget)


def model(prices: dict[str, str] | None = None, **fields: Any) -> ModelSettings:
    deployment = {"provider": "p", "model": "m", "weight": 1}
    told = {"name": "m", "deployments": [deployment], "context_window": 1000, "max_output_tokens": 100}
    return ModelSettings.model_validate(told | fields | {"prices": prices})


def request(tokens: int, answer: int) -> ModelRequest:
    """One whose prompt is estimated at so many tokens."""
    return ModelRequest("m", [Message("user", "x" * 4 * (tokens - 4))], "?", max_tokens=answer)
