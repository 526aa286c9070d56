"""What may be asked and said. A moderator judges a text; what becomes of it, the settings say.

`rules.py` and `openai_moderations.py` judge, `window.py` decides how much of an answer on its way is held back, and
`service.py` puts them to work on questions and answers.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from chatbot_common.errors import Problem, Unavailable


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a text. Scores are from 0 to 1; both tell every category that the moderator knows."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]

    @property
    def found(self) -> list[str]:
        return sorted(name for name, there in self.categories.items() if there)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def merged(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a text that was judged in pieces."""
    flagged, categories, scores = False, dict[str, bool](), dict[str, float]()
    for verdict in verdicts:
        flagged = flagged or verdict.flagged
        for name, score in verdict.category_scores.items():
            categories[name] = categories.get(name, False) or verdict.categories.get(name, False)
            scores[name] = max(scores.get(name, 0.0), score)
    return Verdict(flagged, categories, scores)


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer on its way is judged, in characters.

    `held` at its end are never shown before what follows them is known: nothing flagged of at most that length is ever
    sent. It is judged again with each `step`, together with `context` of what was shown before.
    """

    held: int
    step: int
    context: int


class Moderator(Protocol):
    name: str
    pace: Pace

    async def judge(self, text: str) -> Verdict:
        """Raises `ModerationAway`."""
        ...

    async def close(self) -> None: ...


class ContentBlocked(Problem):
    """The question is not asked, and not stored."""

    status, kind, title = 400, "content-blocked", "The question was refused by moderation"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"Moderation flagged it as: {', '.join(verdict.found) or 'unwanted'}. Please rephrase it.")
        self.verdict = verdict

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"categories": self.verdict.found}

    def as_openai(self) -> dict[str, Any]:
        named = {"type": "invalid_request_error", "param": "messages", "code": "content_policy_violation"}
        return {"error": {"message": str(self)} | named}


class ModerationAway(Unavailable):
    """What is to be blocked when it is flagged is not let through unseen."""

    kind, title = "moderation-unavailable", "Moderation cannot be reached, and nothing passes without it"
