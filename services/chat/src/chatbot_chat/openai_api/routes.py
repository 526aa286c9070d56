"""`/v1`: the routes OpenAI's clients call."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from chatbot_common.direct import Direct, body_of, endpoint
from chatbot_common.identity import AskingUser, asking_user
from chatbot_common.leaving import ClientGone, WhileThere, gone
from fastapi import APIRouter, Depends, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from chatbot_chat.caching.service import wished
from chatbot_chat.openai_api.completion import frame
from chatbot_chat.openai_api.embeddings import EmbeddingService
from chatbot_chat.openai_api.relayed import RelayedResponse
from chatbot_chat.openai_api.schema import CompletionRequest
from chatbot_chat.openai_api.service import CompletionService
from chatbot_chat.sse import guarded, sse_response

router = APIRouter(prefix="/v1", tags=["openai"])


async def _service(request: Request) -> CompletionService:
    service: CompletionService = request.app.state.completions
    return service


async def _embeddings(request: Request) -> EmbeddingService:
    service: EmbeddingService = request.app.state.embeddings
    return service


Completions = Annotated[CompletionService, Depends(_service)]
Embeddings = Annotated[EmbeddingService, Depends(_embeddings)]


@router.post("/chat/completions", response_model=None)
async def create_completion(
    body: CompletionRequest, request: Request, user: AskingUser, completions: Completions
) -> Response:
    """One answer, whole or streamed. The bot's own name is the assistant; the other models are raw."""
    completions.check(body.model)
    await completions.moderate(body)
    use = wished(request.headers.get("cache-control", ""))
    stack = AsyncExitStack()
    try:
        found = await completions.relay(user, body, await request.json(), stack, use)
    except BaseException:
        await stack.aclose()
        raise
    if found:
        return RelayedResponse(*found, stack)
    answering = await completions.answer(user, body, use)
    if body.stream:
        frames = guarded(answering.frames(body.includes_usage), lambda problem: frame(problem.as_openai()))
        response: Response = sse_response(frames, answering.close)
    else:
        response = JSONResponse(await answering.whole())
    response.headers.update(answering.headers)
    return response


async def _create_completion(request: Request) -> Response:
    user, body = await asking_user(request), await body_of(request, CompletionRequest)

    try:
        async with WhileThere(partial(gone, request.receive)):
            return await create_completion(body, request, user, await _service(request))
    except ClientGone as left:
        raise ClientDisconnect from left


DIRECT = {("POST", "/v1/chat/completions"): Direct(endpoint(_create_completion), "/v1/chat/completions")}


@router.get("/models")
async def list_models(_: AskingUser, completions: Completions, embeddings: Embeddings) -> dict[str, Any]:
    """The assistant first, then the raw models, then the one for `/v1/embeddings`."""
    listed = [_model(name, completions) for name in completions.models]
    return {"object": "list", "data": [*listed, *await _embedding_models(completions, embeddings)]}


@router.get("/models/{name:path}")
async def get_model(name: str, _: AskingUser, completions: Completions, embeddings: Embeddings) -> dict[str, Any]:
    if name not in completions.models:
        for model in await _embedding_models(completions, embeddings):
            if model["id"] == name:
                return model
    completions.check(name)
    return _model(name, completions)


async def _embedding_models(completions: CompletionService, embeddings: EmbeddingService) -> list[dict[str, Any]]:
    """The one there is; none where it cannot be looked up right now, or a model for chat has its name."""
    name = await embeddings.name()
    known = name is not None and name not in completions.models
    return [{"id": name, "object": "model", "created": 0, "owned_by": "embeddings"}] if known else []


def _model(name: str, completions: CompletionService) -> dict[str, Any]:
    owner = "assistant" if name == completions.models[0] else "provider"
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
