"""What may be spent: the `budgets` part of the resource."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import Cost, Model

_TOKENS = "tokensPerDay must not exceed tokensPerMonth: lower the one, or raise the other"
_COST = "costPerDay must not exceed costPerMonth: lower the one, or raise the other"

Tokens = Annotated[int, Field(ge=1, le=1_000_000_000_000)]


class Budget(Model):
    """Of prompts and answers together. A day and a month begin at midnight UTC; what is unset is not bounded."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.tokensPerDay) || !has(self.tokensPerMonth) || self.tokensPerDay <= self.tokensPerMonth",
                _TOKENS,
            ),
            Rule(
                "!has(self.costPerDay) || !has(self.costPerMonth)"
                " || double(self.costPerDay) <= double(self.costPerMonth)",
                _COST,
            ),
        )
    )

    tokens_per_day: Tokens | None = None
    tokens_per_month: Tokens | None = None
    cost_per_day: Annotated[Cost | None, Field(description="As a text: in the currency of the prices.")] = None
    cost_per_month: Cost | None = None

    @model_validator(mode="after")
    def _within_the_month(self) -> Self:
        if self.tokens_per_day and self.tokens_per_month and self.tokens_per_day > self.tokens_per_month:
            raise ValueError(_TOKENS)
        if self.cost_per_day and self.cost_per_month and Decimal(self.cost_per_day) > Decimal(self.cost_per_month):
            raise ValueError(_COST)
        return self

    @property
    def counts_cost(self) -> bool:
        return self.cost_per_day is not None or self.cost_per_month is not None


class Budgets(Model):
    """How much may be spent on models. Who has used up a budget is refused until it renews."""

    per_user: Annotated[Budget, Field(description="Of each user.")] = Budget()
    per_key: Annotated[Budget, Field(description="Of each API key; it may have a smaller one of its own.")] = Budget()
    total: Annotated[Budget, Field(description="Of all users together.")] = Budget()
    currency: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3),
        Field(description="Of all prices and costs; it is shown, nothing is converted."),
    ] = "USD"

    @property
    def counts_cost(self) -> bool:
        return any(isinstance(one, Budget) and one.counts_cost for _, one in self)


WHOSE = tuple(str(field.alias) for field in Budgets.model_fields.values() if field.annotation is Budget)
"""Fields that are budgets."""
