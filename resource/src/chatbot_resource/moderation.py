"""What may be asked and said: the `moderation` part of the resource."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import KeyRef, Model

_RULES = "moderation.rulesRef is for provider Rules: set provider to that, or remove it"

Action = Literal["Block", "Flag", "Off"]


class Moderation(Model):
    """Questions and answers are judged: by rules of words and patterns, or by OpenAI's moderation."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("!has(self.rulesRef) || (has(self.provider) && self.provider == 'Rules')", _RULES),
        )
    )

    provider: Annotated[
        Literal["Rules", "OpenAI", "None"],
        Field(description="Who judges. OpenAI is asked with the address and key of the first provider of that type."),
    ] = "None"
    input: Annotated[
        Action,
        Field(description="Block: what is flagged is not asked. Flag: it is asked, and the message says so."),
    ] = "Block"
    output: Annotated[
        Action,
        Field(description="Block: a flagged answer ends, and a notice stands in its place. Flag: the message says so."),
    ] = "Block"
    rules_ref: Annotated[
        KeyRef | None,
        Field(
            description="Key of a ConfigMap: YAML with a list of words, phrases and /patterns/ for each category. "
            "It adds to the rules that come along; a category of the same name replaces theirs."
        ),
    ] = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.rules_ref is not None and self.provider != "Rules":
            raise ValueError(_RULES)
        return self
