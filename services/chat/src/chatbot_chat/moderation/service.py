"""Moderation at work: questions before anything happens with them, answers while they are given."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TypeVar

import structlog
from prometheus_client import Counter

from chatbot_chat.agent import Called, Returned, Wanted
from chatbot_chat.moderation import ContentBlocked, ModerationAway, Moderator, Verdict
from chatbot_chat.moderation.rules import rules_of
from chatbot_chat.moderation.window import Window
from chatbot_chat.providers import Chosen, Finish, ReasoningDelta, TextDelta, ToolCall, Usage
from chatbot_chat.settings import ModerationSettings, Settings

log = structlog.get_logger(__name__)

MODERATED = Counter("chat_moderation_total", "Texts by what moderation made of them", ["direction", "outcome"])

EventT = TypeVar("EventT")


@dataclass(frozen=True, slots=True)
class Withheld:
    """The answer ends here: `text` is shown in the place of all that was said."""

    text: str
    verdict: Verdict


class Moderation:
    """Who judges, and what is done about it. Without settings nobody judges, unless asked to."""

    def __init__(self, moderator: Moderator, settings: ModerationSettings | None = None) -> None:
        self._moderator = moderator
        self._input = settings.input if settings else "Off"
        self._output = settings.output if settings else "Off"

    @property
    def name(self) -> str:
        return self._moderator.name

    @property
    def blocks_answers(self) -> bool:
        return self._output == "Block"

    async def judge(self, text: str) -> Verdict:
        """Raises `ModerationAway`."""
        return await self._moderator.judge(text)

    async def question(self, text: str) -> Verdict | None:
        """How it is flagged, if it is.

        Raises:
            ContentBlocked: it is flagged, and must not be asked then. ModerationAway: nobody knows whether it must.
        """
        if self._input == "Off" or not text.strip():
            return None
        verdict = await self._verdict("input", text, lenient=self._input == "Flag")
        if verdict and self._input == "Block":
            raise ContentBlocked(verdict)
        return verdict

    async def flag(self, text: str) -> Verdict | None:
        """How an answer is flagged that is only to be marked; None where it is not."""
        if self._output != "Flag" or not text.strip():
            return None
        return await self._verdict("output", text, lenient=True)

    def watched(
        self, events: AsyncGenerator[EventT, None]
    ) -> AsyncGenerator[EventT | TextDelta | Withheld | Finish, None]:
        """The same events where answers are not blocked. Else text comes once it was judged, and thoughts not at all;
        what is flagged ends the answer, with `Withheld` and `Finish`.

        Raises:
            ModerationAway: nobody could judge what was said; what was shown until then was judged.
        """
        return self._watched(events) if self.blocks_answers else events

    async def _watched(
        self, events: AsyncGenerator[EventT, None]
    ) -> AsyncGenerator[EventT | TextDelta | Withheld | Finish, None]:
        window = Window(self._moderator.pace)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, TextDelta):
                    window.add(event.text)
                elif isinstance(event, ReasoningDelta):
                    continue
                # A model that calls a tool, or ends, adds nothing to what was held back.
                shown = await self._shown(window, last=not isinstance(event, TextDelta | Chosen | Usage))
                if not isinstance(shown, Withheld):
                    shown = await self._judged(_of_tools(event), shown)
                if isinstance(shown, Withheld):
                    yield shown
                    yield Finish("content_filter")
                    return
                if shown:
                    yield TextDelta(shown)
                if not isinstance(event, TextDelta):
                    yield event

    async def _shown(self, window: Window, *, last: bool) -> str | Withheld:
        shown = await self._judged(window.due(last=last) or "")
        return shown if isinstance(shown, Withheld) else window.released(last=last)

    async def _judged(self, text: str, shown: str = "") -> str | Withheld:
        """`shown`, unless the text is flagged."""
        verdict = await self._verdict("output", text, lenient=False) if text else None
        return Withheld(notice(verdict), verdict) if verdict else shown

    async def _verdict(self, direction: str, text: str, *, lenient: bool) -> Verdict | None:
        """None when it is harmless, or (lenient) nobody could judge it."""
        try:
            verdict = await self._moderator.judge(text)
        except ModerationAway:
            MODERATED.labels(direction, "unchecked").inc()
            if lenient:
                log.warning("moderation is away, nothing is flagged", direction=direction)
                return None
            raise
        MODERATED.labels(direction, "flagged" if verdict.flagged else "harmless").inc()
        return verdict if verdict.flagged else None

    async def close(self) -> None:
        await self._moderator.close()


def _of_tools(event: object) -> str:
    """What a call or its result says to whoever sees it; a model can say anything in an argument."""
    if isinstance(event, Returned):
        return event.result.text
    calls: tuple[ToolCall, ...] = ()
    if isinstance(event, ToolCall):
        calls = (event,)
    elif isinstance(event, Called):
        calls = (event.call,)
    elif isinstance(event, Wanted):
        calls = event.calls
    return "\n".join(f"{call.name} {call.arguments}" for call in calls)


def notice(verdict: Verdict) -> str:
    return f"This answer was withheld: moderation flagged it as {', '.join(verdict.found) or 'unwanted'}."


def make_moderation(settings: Settings) -> Moderation:
    """Raises `MalformedRules`, `OSError`."""
    told = settings.moderation
    if told is None or told.provider is None:
        return Moderation(rules_of(told.rules_file if told else None), told)
    # Imported here: the SDK costs a second of start-up that a bot with rules does not need.
    from chatbot_chat.moderation.openai_moderations import OpenAIModerations

    provider = next(item for item in settings.providers if item.name == told.provider)
    key = settings.provider_keys.get(provider.name)
    return Moderation(OpenAIModerations(provider, key.get_secret_value() if key else None), told)
