"""Stateless completions: the assistant with the team's prompt and knowledge, or a raw model as it is."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from chatbot_common.errors import InvalidRequest, Unavailable, UpstreamFailed
from chatbot_common.identity import User
from chatbot_common.ids import uuid7

from chatbot_chat.agent import AgentEvent, converse
from chatbot_chat.budgets.accounts import Account
from chatbot_chat.budgets.service import Budgets
from chatbot_chat.caching.recall import Recall, Replayed
from chatbot_chat.caching.service import USUAL, Cache, Use
from chatbot_chat.conversation_client import ConversationClient, HistoryMessage, Knowledge
from chatbot_chat.invocation import followed
from chatbot_chat.moderation.service import Moderation
from chatbot_chat.openai_api.answering import Answering
from chatbot_chat.openai_api.completion import Completion, frame
from chatbot_chat.openai_api.counting import Counting
from chatbot_chat.openai_api.raw import Holding, raw_request, refuse_forced_tools, refuse_unheld
from chatbot_chat.openai_api.schema import ChatMessage, CompletionRequest
from chatbot_chat.prompt import PromptTooLong, ToolUse, build_request, system_prompt, weight_beside
from chatbot_chat.providers import ModelEvent, ModelRequest, ProviderError, ProviderTimeout, RelayedAnswer, Usage
from chatbot_chat.providers.catalog import Catalog, Relay, UnknownModel
from chatbot_chat.providers.held import knobs_of, parted
from chatbot_chat.settings import ModelSettings
from chatbot_chat.tokens import estimate_json
from chatbot_chat.tools.catalog import ToolCatalog
from chatbot_chat.tools.factory import Asker
from chatbot_chat.tools.knowledge import Shelf
from chatbot_chat.variants import Choices

log = structlog.get_logger(__name__)

MAX_QUERY = 4000

Ended = Callable[[object, BaseException | None, object], Awaitable[None]]


class CompletionService:
    """`assistant` is the bot's own name, offered as a model beside the raw ones."""

    def __init__(
        self,
        assistant: str,
        catalog: Catalog,
        tools: ToolCatalog,
        conversation: ConversationClient,
        choices: Choices,
        budgets: Budgets,
        moderation: Moderation,
        cache: Cache,
    ) -> None:
        self._assistant = assistant
        self._catalog = catalog
        self._tools = tools
        self._conversation = conversation
        self._choices = choices
        self._budgets = budgets
        self._moderation = moderation
        self._cache = cache

    @property
    def models(self) -> list[str]:
        return [self._assistant, *(name for name in self._catalog.names if name != self._assistant)]

    async def moderate(self, request: CompletionRequest) -> None:
        """All that the client itself says. Raises `ContentBlocked`, `ModerationAway`."""
        await self._moderation.question("\n\n".join(item.text for item in request.messages if item.role != "assistant"))

    async def relay(
        self,
        user: User,
        request: CompletionRequest,
        body: dict[str, Any],
        stack: AsyncExitStack,
        use: Use = USUAL,
    ) -> tuple[RelayedAnswer, Counting, Mapping[str, str]] | None:
        """The provider's own response for a raw model that speaks this protocol, and headers for it; None where we word
        or judge it.

        Args:
            stack: holds the provider's connection until the caller has passed everything on, through the counting.

        Raises:
            UnknownModel: there is no such model. BudgetUsedUp. ProviderError: no deployment answered.
        """
        self.check(request.model)
        if request.model == self._assistant or self._moderation.blocks_answers:
            return None
        if not self._catalog.relays(request.model):  # the cache is asked once, by who answers
            return None
        counting = Counting(streamed=bool(request.stream), hidden=not request.includes_usage)
        recall = await self._cache.recall_relayed(user.id, request.model, body, use)
        account = self._budgets.account(user.id, uuid7(), key=user.key)
        if recall.found:
            account.give_again(request.model)
            await account.close()
            return Replayed(recall.found), counting, recall.headers
        try:
            relay = await self._catalog.relay(
                request.model,
                body,
                stack,
                lambda model: account.admit_estimated(model, lambda: _estimate(model, request, body)),
                bounded=account.bounded,
                cut=account.cut,
            )
        except BaseException:
            await account.close()
            raise
        account.hears(lambda: counting.guess)
        stack.push_async_exit(_counted(relay, counting, account, recall))
        return relay.response, counting, recall.headers

    def check(self, model: str) -> None:
        """Raises `UnknownModel`, naming those there are."""
        if model not in self.models:
            raise UnknownModel(model, self.models)

    def holding(self, user: User, model: str) -> Holding:
        """The assistant can be held to no format, and else to what its user's model can."""
        if model == self._assistant:
            return Holding((), self._catalog.protocols(self._choices.of(user.id).model), assistant=True)
        return Holding(self._catalog.formats(model), self._catalog.protocols(model))

    async def answer(self, user: User, request: CompletionRequest, use: Use = USUAL) -> Answering:
        """Find what is known about the question, and be ready to stream."""
        refuse_unheld(request, self.holding(user, request.model))
        if request.model != self._assistant:
            return await self._answer_raw(user, request, use)
        refuse_forced_tools(request)
        question = _question(request.messages)
        knowledge = await self._knowledge(user, question)
        shelf = Shelf(knowledge)
        chosen = self._choices.of(user.id)
        asked, wishes = parted(knobs_of(request.asked), assistant=True)

        def prepare(settings: ModelSettings, use: ToolUse) -> ModelRequest:
            wanted = build_request(
                settings,
                system=system_prompt(chosen.prompts, None),
                question=question,
                history=_history(request.messages),
                knowledge=knowledge,
                instructions=_instructions(request.messages),
                max_tokens=request.answer_tokens,
                use=use,
                beside=weight_beside(asked),
            )
            return replace(wanted, asked=asked, wishes=wishes, stop=request.stops, parallel=request.parallel)

        model = chosen.model
        asker = Asker(shelf, search=lambda query: self._conversation.search(user, query))
        toolbox = self._tools.toolbox(asker, may_ask=False)
        account = self._budgets.account(user.id, uuid7(), variant=chosen.variant, key=user.key)
        begun = partial(prepare, use=ToolUse(toolbox.specs))
        recall = await self._recall(user, model, begun, use)
        await self._admit(account, recall, model, begun)

        def ask(use: ToolUse) -> AsyncGenerator[ModelEvent, None]:
            prepared = partial(prepare, use=use)
            return account.watched(self._catalog.stream(model, prepared, admit=account.admit, cut=account.cut))

        spoken = self._moderation.watched(recall.through(converse(ask, toolbox), account.give_again))
        events = followed(self._assistant, model, spoken)
        return Answering(Completion(request.model), events, shelf, account, recall)

    async def _answer_raw(self, user: User, request: CompletionRequest, use: Use) -> Answering:
        """By the model as it is: calls of the client's tools are the client's to make."""
        knowledge = Knowledge()
        if not self._catalog.calls(request.model):
            refuse_forced_tools(request)
            request = request.model_copy(update={"tools": None, "tool_choice": None})
        if self._catalog.quotes(request.model):
            knowledge = await self._knowledge(user, _question(request.messages))

        def prepare(settings: ModelSettings) -> ModelRequest:
            return raw_request(settings, request, knowledge)

        prepare(self._catalog.model(request.model))  # a refusal is the response's status
        account = self._budgets.account(user.id, uuid7(), key=user.key)
        recall = await self._recall(user, request.model, prepare, use)
        await self._admit(account, recall, request.model, prepare)
        answer = self._catalog.stream(request.model, prepare, fallbacks=False, admit=account.admit, cut=account.cut)
        spoken: AsyncGenerator[AgentEvent, None] = recall.through(account.watched(answer), account.give_again)
        return Answering(Completion(request.model), self._moderation.watched(spoken), Shelf(knowledge), account, recall)

    async def _recall(
        self, user: User, model: str, prepare: Callable[[ModelSettings], ModelRequest], use: Use
    ) -> Recall:
        """Nothing for models that quote: they cost nothing."""
        if self._catalog.quotes(model):
            return Recall()
        return await self._cache.recall(user.id, model, partial(prepare, self._catalog.model(model)), use)

    async def _admit(
        self, account: Account, recall: Recall, model: str, prepare: Callable[[ModelSettings], ModelRequest]
    ) -> None:
        """Before the response begins: a refusal is its status. Raises `BudgetUsedUp`, `PriceUnknown`."""
        if recall.hit or not account.bounded:
            return
        settings = self._catalog.model(model)
        try:
            with suppress(PromptTooLong):  # a fallback may have room
                await account.admit(settings, prepare(settings))
        except BaseException:
            await account.close()
            raise

    async def _knowledge(self, user: User, question: str) -> Knowledge:
        """What is known; nothing while it cannot be searched, as in a turn."""
        try:
            return await self._conversation.search(user, question[:MAX_QUERY])
        except (Unavailable, UpstreamFailed) as problem:
            log.warning("answer goes on without passages", error=problem.kind)
            return Knowledge()


def _question(messages: list[ChatMessage]) -> str:
    last = messages[-1]
    if last.role != "user" or not last.text.strip():
        raise InvalidRequest(
            "The last message must be a user's text.",
            errors=[{"pointer": "/messages", "detail": "the last message must be a user's text"}],
        )
    return last.text


def _history(messages: list[ChatMessage]) -> list[HistoryMessage]:
    return [
        HistoryMessage(role="user" if item.role == "user" else "assistant", text=item.text)
        for item in messages[:-1]
        if item.role in ("user", "assistant")
    ]


def _instructions(messages: list[ChatMessage]) -> str | None:
    """What the client's own system messages ask; it comes after the team's prompt."""
    return "\n\n".join(item.text for item in messages if item.role in ("system", "developer")) or None


def _estimate(model: ModelSettings, request: CompletionRequest, body: Mapping[str, Any]) -> Usage:
    """The most that a raw model may use: all it is told, tools and images too, and the longest answer.

    Of two bounds it may know the one or the other.
    """
    told = {name: body[name] for name in body.keys() - {"model", "stream", "stream_options"} if body[name] is not None}
    longest = max(request.max_tokens or 0, request.max_completion_tokens or 0)
    return Usage(estimate_json(told), longest or model.max_output_tokens)


def _counted(relay: Relay, counting: Counting, account: Account, recall: Recall) -> Ended:
    """How a relayed answer ends. One that its client has left costs its prompt at least; a refusal costs nothing."""

    async def ended(_: object, error: BaseException | None, __: object) -> None:
        if counting.streamed and counting.began:
            relay.began(counting.began)
        if 200 <= relay.response.status < 300:
            if usage := counting.usage:
                relay.heard(usage)
            left = not (counting.complete or isinstance(error, ProviderError))
            account.count(usage, 0 if usage else counting.said, taken=left)
        await account.close()
        if recall.keeps and relay.response.status == HTTPStatus.OK and counting.complete and counting.plain:
            await recall.keep_bytes(counting.seen, relay.response.content_type)

    return ended


async def relayed(
    response: RelayedAnswer, counting: Counting, broke: Callable[[ProviderError], None]
) -> AsyncGenerator[bytes, None]:
    """The provider's bytes. A stream that breaks, or just stops, ends in an error frame; any other body must not look
    complete.

    Args:
        counting: reads along.
        broke: is told why a stream broke.
    """
    try:
        async with aclosing(response.pieces()) as pieces:
            async for piece in pieces:
                if shown := counting.passed(piece):
                    yield shown
        if response.streamed and not counting.ended:
            raise ProviderError
        counting.end()
    except ProviderError as error:
        if not response.streamed:
            raise
        broke(error)
        told = error if isinstance(error, ProviderTimeout) else ProviderError("The provider's answer broke off.")
        if not counting.failed:  # else the provider has said so itself
            yield frame(told.as_openai())
