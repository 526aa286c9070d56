"""What else a client asks of an answer, by OpenAI's names, and which protocol can be held to it. Pure.

Who speaks OpenAI's protocol is told all of it, and judges it. Of the others is known here what they can do. What would
change the answer or the bill and cannot be held is refused by name: an answer to another request than the client's
would look like one to its own.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from chatbot_chat.providers import ModelRequest

HINTS = frozenset(
    {
        *("metadata", "safety_identifier", "store", "user"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    }
)
"""They change neither the answer nor, for certain, what it costs. Who does not know them is not told them."""
TASTES = frozenset({"temperature", "top_p"})
"""Many clients send them with each request. Who asks the assistant cannot know its model: there they are wishes."""
TEMPERATURE = 0.7
"""Of the assistant, unless another is asked for."""
USUAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "service_tier": ("auto", "default"),
    "temperature": (1,),
    "top_logprobs": (0,),
    "top_p": (1,),
    "verbosity": ("medium",),
}
"""What OpenAI takes for said where nothing is said: who asks for that asks for nothing more."""
LOST: Mapping[str, str] = {
    "audio": "answers are text here",
    "function_call": "send tool_choice",
    "functions": "send tools",
    "logprobs": "answers have none here",
    "modalities": "answers are text here",
    "moderation": "answers are judged by the chatbot's own moderation, if it has one",
    "top_logprobs": "answers have none here",
    "web_search_options": "nothing is searched for a raw model",
    # Of responses:
    "access_programs": "leave it out",
    "context_management": "send truncation",
}
"""What comes of it cannot be told where the answer is worded here, whoever gives it."""
KNOBS = frozenset(
    {
        *("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias"),
        *("reasoning_effort", "verbosity"),
    }
)
"""What a client may ask of the assistant, too. The rest is between its team and the provider."""
OTHERS = frozenset(
    {
        *("prediction", "service_tier"),
        # Of compatible servers:
        *("best_of", "chat_template_kwargs", "enable_thinking", "grammar", "guided_choice", "guided_grammar"),
        *("guided_json", "guided_regex", "include_reasoning", "length_penalty", "min_p", "min_tokens", "mirostat"),
        *("models", "plugins", "provider", "random_seed", "reasoning", "repeat_penalty", "repetition_penalty", "route"),
        *("safe_prompt", "stop_token_ids", "structured_outputs", "thinking", "top_a", "top_k", "transforms"),
        *("typical_p", "use_beam_search"),
    }
)
EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""Of Claude's models; there is no smaller one."""
SIMPLER = "send strict: false, or a simpler schema"
"""What to do where a tool is refused that is strict."""
ONE_TOOL = re.compile(r"\btools(\.|\[)\d")
"""What is said of one of the tools, and not of whether there may be any."""
_STRICT = re.compile(r"\bstrict|schema|grammar", re.IGNORECASE)
_FORMAT = re.compile(r"response_format|output_config|output_format")
_SAMPLING = ("temperature", "top_p", "seed")
_LEAVE = "leave it out"


def unheld(protocols: Iterable[str], asked: Mapping[str, Any], *, assistant: bool = False) -> tuple[str, str] | None:
    """The first field to which one of these protocols cannot be held, and what to do instead."""
    spoken = set(protocols)
    firm, _ = parted(asked, assistant=assistant)
    for name, value in firm.items():
        if value in USUAL.get(name, ()):
            continue
        if name in LOST:
            return name, LOST[name]
        if assistant and name in OTHERS:
            return name, _LEAVE
        if advice := next(filter(None, (_advice(protocol, name, value) for protocol in spoken)), None):
            return name, advice
    return None


def parted(asked: Mapping[str, Any], *, assistant: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """To what of it who answers is held, and what are wishes. See `ModelRequest`."""
    wished = HINTS | TASTES if assistant else HINTS
    firm = {name: value for name, value in asked.items() if name not in wished}
    ours = {"temperature": TEMPERATURE} if assistant else {}
    return firm, ours | {name: value for name, value in asked.items() if name in wished}


def knobs_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What of it the assistant's model is told."""
    return {name: value for name, value in asked.items() if name in KNOBS}


def too_strict(request: ModelRequest, said: str) -> bool:
    """Whether a refusal is about a tool to whose schema calls would have to fit: not each schema can be held to."""
    if not any(tool.strict for tool in request.tools):
        return False
    return bool(ONE_TOOL.search(said) or (_STRICT.search(said) and not _FORMAT.search(said)))


def _advice(protocol: str, name: str, value: Any) -> str | None:
    """None where it can be held, or nobody here knows what it is."""
    if protocol == "openai" or name not in KNOBS | OTHERS:
        return None
    if protocol == "anthropic":
        if name == "reasoning_effort":
            return None if value in EFFORTS else f"send one of {', '.join(EFFORTS)}, or {_LEAVE}"
    elif name in _SAMPLING:
        return None  # nothing is drawn: the answer to a question is the same at any temperature
    usual = USUAL.get(name)
    return f"{_LEAVE}, or send {usual[0]}" if usual else _LEAVE
