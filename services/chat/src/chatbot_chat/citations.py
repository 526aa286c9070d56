"""Which passages an answer rests on: those whose number it names."""

import re
from typing import Any

from chatbot_chat.conversation_client import Knowledge
from chatbot_chat.prompt import helps

_MARK = re.compile(r"\[(\d{1,2})\]")


def citations_of(text: str, knowledge: Knowledge) -> list[dict[str, Any]]:
    """One citation per passage named as `[n]` in the text, in the order of first mention.

    Returns:
        `{index, title, text, url, source_id, kind}`; `index` is the number in the text.
    """
    numbers = dict.fromkeys(int(match) for match in _MARK.findall(text))
    shown = {number: passage for number, passage in enumerate(knowledge.passages, 1) if helps(passage)}
    cited = [(number, shown[number]) for number in numbers if number in shown]
    return [
        {
            "index": number,
            "title": passage.title,
            "text": passage.text,
            "url": passage.url,
            "source_id": str(passage.id),
            "kind": passage.kind,
        }
        for number, passage in cited
    ]
