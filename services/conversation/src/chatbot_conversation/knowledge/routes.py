"""Public routes of knowledge: published FAQs, and semantic search."""

from typing import Annotated
from uuid import UUID

from chatbot_common.identity import AnyUser
from fastapi import APIRouter, Depends, Query, Request

from chatbot_conversation.knowledge.schema import Faq, Knowledge, SearchRequest
from chatbot_conversation.knowledge.service import KnowledgeService
from chatbot_conversation.wire import Page, Text, Window

router = APIRouter(prefix="/api/v1", tags=["knowledge"])


async def _service(request: Request) -> KnowledgeService:
    service: KnowledgeService = request.app.state.knowledge
    return service


Service = Annotated[KnowledgeService, Depends(_service)]


class FaqWindow(Window):
    category: Text | None = None


@router.get("/faqs")
async def list_faqs(_: AnyUser, knowledge: Service, window: Annotated[FaqWindow, Query()]) -> Page[Faq]:
    """Published FAQs, most important first."""
    return await knowledge.faqs(window.category, window)


@router.get("/faqs/{faq_id}")
async def get_faq(faq_id: UUID, _: AnyUser, knowledge: Service) -> Faq:
    return await knowledge.faq(faq_id)


@router.post("/knowledge/search")
async def search_knowledge(body: SearchRequest, _: AnyUser, knowledge: Service) -> Knowledge:
    """Passages nearest in meaning to the query. With the bundled model a good hit scores about 0.45 or more."""
    return await knowledge.search(body.query, body.limit)
