"""Answers by quoting the knowledge base: no key, no network, nothing made up.

It greets, says what it can talk about, quotes the best passages with citations, and says plainly when it knows nothing.
"""

import re
from collections.abc import AsyncGenerator

from chatbot_chat.conversation_client import Knowledge, Passage
from chatbot_chat.providers import Finish, ModelEvent, ModelRequest, TextDelta, Usage
from chatbot_chat.tokens import estimate_tokens

# Cosine similarity under the bundled MiniLM: paraphrases of a known question score 0.5 and more, unrelated
# questions under 0.3.
GOOD_SCORE = 0.45
# Short questions ("dog?", "price") score low however well they fit; there a shared word speaks for the passage.
SHARED_WORD_SCORE = 0.25
NEAR_SCORE = 0.1
MAX_RELATED = 2

# Bare phrases only: "Hi! When are you open?" is a question.
_GREETING = re.compile(
    r"\W*(hi|hello|hey|hallo|servus|moin|bonjour|salut|hola|ciao|good (morning|afternoon|evening|day)"
    r"|guten (morgen|tag|abend))( there| all| everyone| again)?\W*"
    r"|\W*(help( me)?|who are you|what are you|what (can|do) you (do|know)|what is this)\W*",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"\W*((ok(ay)?|great)\W+)?(thanks?|thank you|thx|danke|merci|gracias|great|ok(ay)?|bye)"
    r"( a lot| so much| very much| you)?\W*",
    re.IGNORECASE,
)


_COMMON = """
about all also and any are can could did does doing for from get give had has have her his how into its just know let
like make many may more most much must not one our out own please say she should some tell than that the their them then
there these they this those too use very want was way were what when where which who whom whose why will with would you
your
"""
COMMON_WORDS = frozenset(re.findall(r"\w+", _COMMON))


class Retrieval:
    """The provider behind the model `retrieval`."""

    protocol = "retrieval"

    def __init__(self, name: str) -> None:
        self.name = name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        text = answer(request.question, request.knowledge)
        for piece in re.findall(r"\S+\s*|\s+", text):
            yield TextDelta(piece)
        yield Usage(estimate_tokens(request.question), estimate_tokens(text))
        yield Finish("stop")

    async def close(self) -> None:
        """Nothing is held."""


def answer(question: str, knowledge: Knowledge) -> str:
    """The whole answer in Markdown; `[n]` refers to the n-th passage, counted from 1."""
    found = [(number, item) for number, item in enumerate(knowledge.passages, 1) if _fits(question, item)]
    if _THANKS.fullmatch(question):
        return "You are welcome. Ask me anything else about " + _topics(knowledge) + "."
    if _GREETING.fullmatch(question):
        return "Hello! I answer from this team's knowledge base. " + _offer(knowledge)
    if not found:
        return "I do not know: the knowledge base has nothing about that. " + _offer(knowledge)
    return _quote(found)


def _fits(question: str, passage: Passage) -> bool:
    if passage.score >= GOOD_SCORE:
        return True
    meant, keywords = _stems(question), _stems(" ".join(passage.keywords))
    if meant and meant <= keywords:
        return True  # "wifi?": who wrote the FAQ said that it is about nothing but that
    shared = meant & (keywords | _stems(f"{passage.title} {passage.text}"))
    return passage.score >= SHARED_WORD_SCORE and bool(shared)


def _stems(text: str) -> set[str]:
    """Words that carry meaning, cut to their first five letters: `prices` and `price` are one."""
    return {word.removesuffix("s")[:5] for word in re.findall(r"\w{3,}", text.lower()) if word not in COMMON_WORDS}


def _quote(found: list[tuple[int, Passage]]) -> str:
    (number, best), *others = found
    lines = [f"{_without_headings(best.text)} [{number}]"]
    related = [item for item in others if best.score - item[1].score <= NEAR_SCORE and item[1].text != best.text]
    if related:
        titles = ", ".join(f"{passage.title} [{other}]" for other, passage in related[:MAX_RELATED])
        lines.append(f"See also: {titles}")
    return "\n\n".join(lines)


def _without_headings(text: str) -> str:
    """The passage as running text; its title stands in the citation."""
    kept = [line for line in text.strip().splitlines() if not re.match(r"#{1,6}\s", line)]
    return "\n".join(kept).strip() or text.strip()


def _offer(knowledge: Knowledge) -> str:
    if not knowledge.topics:
        return "The knowledge base is still empty; an administrator can add FAQs or documents to it."
    questions = "\n".join(f"- {question}" for question in knowledge.questions[:3])
    return f"I can tell you about {_topics(knowledge)}." + (f" Try one of these:\n\n{questions}" if questions else "")


def _topics(knowledge: Knowledge) -> str:
    topics = knowledge.topics[:6] or ["what is in the knowledge base"]
    return topics[0] if len(topics) == 1 else ", ".join(topics[:-1]) + " and " + topics[-1]
