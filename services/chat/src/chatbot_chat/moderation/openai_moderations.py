"""OpenAI's moderation API, by the official SDK."""

import asyncio

import httpx2
import openai
from chatbot_common.genai import Operation
from openai import AsyncOpenAI
from opentelemetry import trace

from chatbot_chat.moderation import ModerationAway, Pace, Verdict, merged
from chatbot_chat.settings import ProviderSettings
from chatbot_chat.timing import waiting

tracer = trace.get_tracer(__name__)

MODEL = "omni-moderation-latest"
SECONDS = 5.0
PIECE = 20_000
"""Characters that are judged at once; the API takes about 32,000 tokens."""
OVERLAP = 200
AT_ONCE = 8
"""Requests of this process; what one large text needs must not use up the key's rate for everybody."""


class OpenAIModerations:
    """Asked with each few hundred characters of an answer: what is shown meanwhile was judged."""

    name = "openai"
    pace = Pace(held=40, step=400, context=400)

    def __init__(self, provider: ProviderSettings, api_key: str | None) -> None:
        self._operation = Operation("moderation", "openai", MODEL, provider.base_url)
        self._client = AsyncOpenAI(
            base_url=provider.base_url, api_key=api_key or "none", max_retries=1, timeout=httpx2.Timeout(SECONDS)
        )
        self._places = asyncio.Semaphore(AT_ONCE)

    async def judge(self, text: str) -> Verdict:
        with self._operation.measured(tracer), waiting():
            return await self._judged(text)

    async def _judged(self, text: str) -> Verdict:
        starts = range(0, max(len(text) - OVERLAP, 1), PIECE - OVERLAP)
        return merged(await asyncio.gather(*(self._judge(text[start : start + PIECE]) for start in starts)))

    async def _judge(self, text: str) -> Verdict:
        try:
            async with self._places:
                answer = await self._client.moderations.create(model=MODEL, input=text)
            found = answer.results[0]
            categories = {name: bool(there) for name, there in found.categories.model_dump(by_alias=True).items()}
            scores = {
                name: float(score or 0) for name, score in found.category_scores.model_dump(by_alias=True).items()
            }
            return Verdict(bool(found.flagged), categories, scores)
        except (openai.OpenAIError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ModerationAway("OpenAI's moderation did not answer; try again shortly.") from error

    async def close(self) -> None:
        await self._client.close()
