"""What a turn's task is made of: how a request for a model is prepared, and the answer that there may be already."""

from dataclasses import replace
from functools import partial
from uuid import UUID

from chatbot_chat.caching.service import Cache, Use
from chatbot_chat.conversation_client import Knowledge, Options, Turn
from chatbot_chat.prompt import TEMPERATURE, ToolUse, build_request
from chatbot_chat.providers import ModelRequest
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.runs.executor import Prepare, Task
from chatbot_chat.settings import ModelSettings


async def recalled(cache: Cache, catalog: Catalog, user_id: UUID, task: Task, use: Use) -> Task:
    """With the answer that the cache has. Not for who goes on with calls of tools, and models that quote, at no cost.

    Raises `UnknownModel`, and what `Task.prepare` does.
    """
    if task.before or catalog.quotes(task.model):
        return task
    prepare = partial(task.prepare, catalog.model(task.model), ToolUse(task.toolbox.specs))
    return replace(task, recall=await cache.recall(user_id, task.model, prepare, use))


def preparing(
    turn: Turn,
    options: Options,
    knowledge: Knowledge,
    *,
    system: str,
    instructions: str | None,
    summary: str | None = None,
) -> Prepare:
    """How a request for a model is made of the turn."""

    def prepare(settings: ModelSettings, use: ToolUse) -> ModelRequest:
        return build_request(
            settings,
            system=system,
            question=turn.text,
            history=turn.history,
            knowledge=knowledge,
            summary=summary,
            instructions=instructions,
            max_tokens=options.max_output_tokens,
            temperature=TEMPERATURE if options.temperature is None else options.temperature,
            use=use,
        )

    return prepare
