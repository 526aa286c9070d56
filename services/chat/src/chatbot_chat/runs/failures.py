"""How a run failed, as the status of a response: for a client that waits for one JSON answer."""

from chatbot_common.errors import Problem

from chatbot_chat.providers.errors import unheld_field

STATUSES = {
    "content-filter": 400,
    "unsupported-parameter": 400,
    "provider-timeout": 504,
    "provider-overloaded": 503,
    "context-length-exceeded": 413,
    "budget-used-up": 429,
    "budget-held": 429,
    "price-unknown": 403,
    "moderation-unavailable": 503,
}
ONCE = {"x-should-retry": "false"}
"""Of a question that is stored, and whose turn has ended: OpenAI's clients would send it again, as another one."""


class AnswerTooLong(Problem):
    """Models that think first may do nothing else until their bound is reached."""

    status, kind, title = 502, "answer-too-long", "The answer was cut before its first word"

    def __init__(self, model: str, tokens: int) -> None:
        super().__init__(
            f"Model {model} used all of its {tokens} tokens for thinking, before its first word; try again, ask for "
            "less at once, or have an administrator raise its maxOutputTokens."
        )


class RunFailed(Problem):
    """The run's own failure. `error` is `{type, title}`, as its last event has it."""

    status = 502

    def __init__(self, error: dict[str, str]) -> None:
        self.kind = error["type"].rpartition(":")[2]
        self.title = error["title"]
        self.status = STATUSES.get(self.kind, 502)
        super().__init__(headers=ONCE)
        if field := unheld_field(self.title):
            self.errors = [{"pointer": f"/{field}", "detail": self.title}]

    @property
    def openai_status(self) -> int:
        return 400 if self.kind == "context-length-exceeded" else super().openai_status
