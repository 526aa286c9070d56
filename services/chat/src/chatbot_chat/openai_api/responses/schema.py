"""What clients send to `/v1/responses`. Unknown fields are tolerated; what would be answered wrongly is refused."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from chatbot_chat.openai_api.raw import Refused, choice_of, format_of, functions_of
from chatbot_chat.openai_api.schema import ChatMessage, CompletionRequest, ContentPart

Name = Annotated[str, StringConstraints(max_length=64)]
Value = Annotated[str, StringConstraints(max_length=512)]
MAX_ITEMS = 2000
TEXTS = ("input_text", "output_text", "text")
ROLES = ("user", "assistant", "system", "developer")
SKIPPED = ("reasoning",)
"""Items that clients send back as they got them, and that no model here needs."""
NAMES = {"reasoning_effort": "reasoning.effort", "verbosity": "text.verbosity", "response_format": "text"}
"""Name of chat completions → name of responses."""
INCLUDED = ("message.output_text.logprobs",)
"""What answers have none of. All else that can be included belongs to items that there are none of here."""
HELD: Mapping[str, tuple[str, ...]] = {
    "reasoning.context": ("auto", "current_turn"),
    "reasoning.generate_summary": ("auto",),
    "reasoning.mode": ("standard",),
    "reasoning.summary": ("auto",),
}
"""What may be said beside the effort, because it asks for no more than there is."""


def renamed(words: str) -> str:
    """Words about a field of chat completions, with its name of responses."""
    for name, here in NAMES.items():
        words = words.replace(f"'{name}'", f"'{here}'")
    return words


class InputItem(BaseModel):
    """A message, whose `type` may be missing; a call of one of the client's tools, or what came of it."""

    model_config = ConfigDict(extra="allow")

    type: str = "message"
    role: str = ""
    content: str | list[ContentPart] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[ContentPart] | None = None
    extra_content: dict[str, Any] | None = None
    """What the call's provider wants back with it, as it came."""

    @property
    def text(self) -> str:
        """Raises `Refused` for what is not text."""
        return _text(self.content)


def _text(content: str | list[ContentPart] | None) -> str:
    if not isinstance(content, list):
        return content or ""
    for part in content:
        if part.get("type") not in TEXTS:
            raise Refused("input", f"Only text is understood here, not {str(part.get('type'))[:40]!r}.")
    return "\n".join(str(part.get("text", "")) for part in content)


class ConversationName(BaseModel):
    id: UUID


class TextOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ReasoningOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    effort: str | None = None


def _functions(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    for tool in tools or ():
        if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
            raise ValueError(
                f"only tools of type function, with a name, are the client's; not {str(tool.get('type'))[:40]!r}"
            )
    return tools


def _no_template(prompt: dict[str, Any] | None) -> dict[str, Any] | None:
    if prompt is not None:
        raise ValueError("there are no templates of prompts here; send their text as instructions")
    return prompt


class ResponseRequest(BaseModel):
    """A response. It is stored unless `store` is false, as OpenAI has it; then it is a turn of a conversation."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"model": "demo", "input": "Hello"}]})

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: UUID | ConversationName | None = None
    """One of the native face, to go on with."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    metadata: Annotated[dict[Name, Value], Field(max_length=16)] | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    tools: Annotated[list[dict[str, Any]] | None, AfterValidator(_functions)] = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    stream_options: dict[str, Any] | None = None
    """Of `include_obfuscation`: what it adds says nothing, and is not added here."""
    prompt: Annotated[dict[str, Any] | None, AfterValidator(_no_template)] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.previous_response_id and self.conversation:
            raise ValueError("previous_response_id and conversation exclude each other")
        if self.store is False:
            for field in ("background", "previous_response_id", "conversation"):
                if getattr(self, field):
                    raise ValueError(f"{field} needs store: true; what is not stored has to be sent along in input")
        return self

    @property
    def format(self) -> dict[str, Any] | None:
        """Of the text, as the client has it."""
        return self.text.format if self.text else None

    @property
    def stored(self) -> bool:
        return self.store is not False

    @property
    def conversation_id(self) -> UUID | None:
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation

    def refuse_unheld(self, raw: bool) -> None:
        """What has another meaning here, or depends on who answers. Raises `Refused`."""
        for item in self.include or ():
            if item in INCLUDED:
                raise Refused("include", f"{item!r} cannot be included: answers have none here. Leave it out.")
        for place, part in (("reasoning", self.reasoning), ("text", self.text)):
            for name, value in ((part and part.model_extra) or {}).items():
                if value is not None and value not in HELD.get(field := f"{place}.{name}", ()):
                    raise Refused(field, f"No answer here can be held to {field!r}: leave it out.")
        for name in self._others.keys() & CompletionRequest.model_fields.keys():
            raise Refused(name, f"Chat completions have a field {name!r}, responses have none: leave it out.")
        if self.max_tool_calls and not raw:
            raise Refused("max_tool_calls", "The assistant's tools have bounds of their own; this one is not kept.")
        if self.truncation == "disabled" and (self.stored or not raw):
            raise Refused(
                "truncation",
                "What does not fit into the model's window is left out here, the oldest exchange first: send auto, "
                "or nothing. A raw model with store: false gets all of it.",
            )
        if self.truncation == "auto" and raw and not self.stored:
            raise Refused(
                "truncation", "With store: false a raw model gets all of it, or refuses it: send disabled, or nothing."
            )

    @property
    def _others(self) -> dict[str, Any]:
        """What nobody here reads."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}

    @property
    def _passed_on(self) -> dict[str, Any]:
        """That and what has another name there, as chat completions have it."""
        others = {name: value for name, value in self._others.items() if name not in CompletionRequest.model_fields}
        effort, verbosity = self.reasoning and self.reasoning.effort, self.text and self.text.verbosity
        named = {"reasoning_effort": effort, "verbosity": verbosity}
        return others | {name: value for name, value in named.items() if value is not None}

    @property
    def completion(self) -> CompletionRequest:
        """The same as a chat completion: what is asked and was said before, instructions first. Raises `Refused`."""
        instructions = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        return CompletionRequest(
            model=self.model,
            messages=[*instructions, *self._said()],
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=format_of(self.format),
            tools=functions_of(self.tools),
            tool_choice=choice_of(self.tool_choice),
            **self._passed_on,
        )

    def _said(self) -> list[ChatMessage]:
        items = [InputItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        if len(items) + bool(self.instructions) > MAX_ITEMS:
            raise Refused("input", f"At most {MAX_ITEMS} items are taken at once.")
        said: list[ChatMessage] = []
        for item in items:
            if item.type == "function_call":
                _call(said, item)
            elif item.type not in SKIPPED:
                said.append(_message(item))
        last = said[-1] if said else None
        if last is None or not (last.role == "tool" or (last.role == "user" and last.text.strip())):
            raise Refused("input", "The last item of input must be a user's text, or the output of a function call.")
        return said


def _message(item: InputItem) -> ChatMessage:
    if item.type == "function_call_output":
        return ChatMessage(role="tool", content=_text(item.output), tool_call_id=item.call_id)
    if item.type != "message" or item.role not in ROLES:
        known = ", ".join(ROLES)
        raise Refused(
            "input",
            f"Items of input are messages of {known}, function_call and function_call_output; "
            f"this one is {(item.role or item.type)[:40]!r}.",
        )
    return ChatMessage(role=item.role, content=item.text)


def _call(said: list[ChatMessage], item: InputItem) -> None:
    """Calls that follow one another, or the text before them, are one message of the model."""
    if not said or said[-1].role != "assistant":
        said.append(ChatMessage(role="assistant"))
    function = {"name": item.name, "arguments": item.arguments}
    call = {"id": item.call_id, "type": "function", "function": function, "extra_content": item.extra_content}
    said[-1].tool_calls = [*(said[-1].tool_calls or ()), call]
