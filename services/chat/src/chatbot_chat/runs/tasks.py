"""What a turn asks of whom, made of its row: model, prompt, tools, and the answer that there may be already."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from chatbot_common.identity import User

from chatbot_chat.caching.recall import Recall
from chatbot_chat.caching.service import Cache, Use
from chatbot_chat.conversation_client import ConversationClient, Knowledge, Options, Turn
from chatbot_chat.prompt import Prepare, ToolUse, build_request, system_prompt, weight_beside
from chatbot_chat.providers import ModelRequest
from chatbot_chat.providers.catalog import Catalog
from chatbot_chat.providers.held import parted
from chatbot_chat.runs.handing_over import handing_over
from chatbot_chat.runs.resuming import Resume, resumed
from chatbot_chat.settings import ModelSettings
from chatbot_chat.tools.catalog import ToolCatalog
from chatbot_chat.tools.factory import Asker
from chatbot_chat.tools.knowledge import Shelf
from chatbot_chat.tools.toolbox import ClientTools, Toolbox
from chatbot_chat.variants import Choices


@dataclass(frozen=True)
class Task:
    """What is asked of whom: the model, how a request for it is made, the tools it has and the passages it may cite."""

    model: str
    prepare: Prepare
    toolbox: Toolbox
    shelf: Shelf
    language: str | None = None
    before: Resume | None = None
    """Of the attempt that had to wait for the user, whose answers are `decided`: call id → agreed."""
    decided: Mapping[str, bool] = field(default_factory=dict)
    fallbacks: bool = True
    """Whether another model may answer."""
    variant: str | None = None
    gone: str | None = None
    """The model that should have answered, and is not served any more."""
    recall: Recall = field(default_factory=Recall)


class Asking:
    """Makes tasks."""

    def __init__(
        self, catalog: Catalog, tools: ToolCatalog, conversation: ConversationClient, choices: Choices, cache: Cache
    ) -> None:
        self._catalog = catalog
        self._tools = tools
        self._conversation = conversation
        self._choices = choices
        self._cache = cache

    async def of(self, user: User, turn: Turn, model: str | None, language: str | None, use: Use) -> Task:
        """Of a turn that was started. One that goes on asks whom it asked before, in the same language.

        Args:
            model: the one that the client named, if it did.

        Raises:
            UnknownModel: it has gone meanwhile.
        """
        if turn.options and turn.options.raw:
            task = self._raw(turn, model or turn.options.model, turn.options)
        else:
            task = self._assistant(user, turn, model, language)
        return await self._recalled(user.id, task, use)

    def _assistant(self, user: User, turn: Turn, model: str | None, language: str | None) -> Task:
        before = resumed(turn.waiting.resume) if turn.waiting else None
        language = before.language if before else language
        model, gone = (model, None) if before else self._wanted(turn, model)
        chosen = self._choices.again(before.model, before.variant) if before else self._choices.of(user.id, model)
        options = turn.options or Options(model=chosen.model, raw=False)
        knowledge = before.knowledge if before else turn.knowledge
        prepare = _preparing(
            turn,
            options,
            knowledge,
            system=system_prompt(chosen.prompts, language),
            summary=turn.summary,
            instructions="\n\n".join(filter(None, (turn.instructions, options.instructions))) or None,
        )
        shelf = Shelf(knowledge)
        asker = Asker(
            shelf,
            search=lambda query: self._conversation.search(user, query),
            messages=lambda: self._conversation.messages(user, turn.conversation_id),
        )
        calls = turn.waiting.calls if turn.waiting else []
        decided = {call.tool_call_id: call.approved is True for call in calls}
        toolbox = self._tools.toolbox(asker, may_ask=turn.options is None)  # OpenAI's clients know no way to agree
        variant = chosen.variant
        return Task(chosen.model, prepare, toolbox, shelf, language, before, decided, variant=variant, gone=gone)

    def _wanted(self, turn: Turn, named: str | None) -> tuple[str | None, str | None]:
        """The model that is asked for: by the request, or else by the turn, and whether that one has gone."""
        if named or not turn.model:
            return named, None
        return (turn.model, None) if turn.model in self._catalog.names else (None, turn.model)

    def _raw(self, turn: Turn, model: str, options: Options) -> Task:
        """Without the team's prompt, knowledge and tools, and of no other model."""
        knowledge = turn.knowledge if self._catalog.quotes(model) else Knowledge()
        if options.tools or options.exchange:
            return Task(model, handing_over(turn, options, knowledge), ClientTools(), Shelf(knowledge), fallbacks=False)
        prepare = _preparing(turn, options, knowledge, system="", instructions=options.instructions)
        return Task(model, prepare, Toolbox(), Shelf(knowledge), fallbacks=False)

    async def _recalled(self, user_id: UUID, task: Task, use: Use) -> Task:
        """With the answer that the cache has. Not for who goes on with calls of tools; models that quote are free."""
        if task.before or self._catalog.quotes(task.model):
            return task
        prepare = partial(task.prepare, self._catalog.model(task.model), ToolUse(task.toolbox.specs))
        return replace(task, recall=await self._cache.recall(user_id, task.model, prepare, use))


def _preparing(
    turn: Turn,
    options: Options,
    knowledge: Knowledge,
    *,
    system: str,
    instructions: str | None,
    summary: str | None = None,
) -> Prepare:
    """How a request for a model is made of the turn."""
    asked, wishes = parted(options.asked, assistant=not options.raw)

    def prepare(settings: ModelSettings, use: ToolUse) -> ModelRequest:
        request = build_request(
            settings,
            system=system,
            question=turn.text,
            history=turn.history,
            knowledge=knowledge,
            summary=summary,
            instructions=instructions,
            pinned=options.sent,
            max_tokens=options.max_output_tokens,
            use=use,
            beside=weight_beside(asked, options.format),
        )
        return replace(request, asked=asked, wishes=wishes, parallel=options.parallel_tool_calls, format=options.format)

    return prepare
