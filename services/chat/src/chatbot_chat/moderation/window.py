"""How much of an answer on its way may be shown: nothing that was not judged, and not its very end. Pure."""

from chatbot_chat.moderation import Pace


class Window:
    """Add text, have judged what is `due`, and show what is then `released`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._shown = ""
        """The last of it."""
        self._waiting = ""
        self._judged = 0
        """How much of what waits was judged."""

    def add(self, text: str) -> None:
        self._waiting += text

    def due(self, *, last: bool = False) -> str | None:
        """What is to be judged now; None while it is too little. Half a word is not judged: it may become another."""
        end = len(self._waiting) if last else self._last_word_end()
        if end - self._judged <= 0 or (not last and end < self._pace.held + self._pace.step):
            return None
        self._judged = end
        return self._shown + self._waiting[:end]

    def released(self, *, last: bool = False) -> str:
        """What may be shown, once what was due is found harmless."""
        end = self._judged if last else min(self._judged, len(self._waiting) - self._pace.held)
        if end <= 0:
            return ""
        text, self._waiting = self._waiting[:end], self._waiting[end:]
        self._judged -= end
        self._shown = _from_a_word(self._shown + text, self._pace.context)
        return text

    def _last_word_end(self) -> int:
        """In a text without spaces, its end."""
        end = max(self._waiting.rfind(space) for space in " \n\t")
        return end if end >= len(self._waiting) - self._pace.held else len(self._waiting)


def _from_a_word(text: str, length: int) -> str:
    """The last so many characters, without half a word at their beginning."""
    if len(text) <= length:
        return text
    kept = text[-length:]
    start = kept.find(" ")
    return kept[start:] if start >= 0 else kept
