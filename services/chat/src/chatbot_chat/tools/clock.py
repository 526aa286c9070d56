"""What time it is: models do not know."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from chatbot_chat.tools import ToolError


class Clock:
    name = "current_time"
    description = "Tells the current date, weekday and time, in UTC or in a time zone such as Europe/Berlin."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"timezone": {"type": "string", "maxLength": 64, "description": "IANA name; default UTC"}},
        "additionalProperties": False,
    }

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    async def run(self, arguments: Mapping[str, Any]) -> str:
        name = arguments.get("timezone") or "UTC"
        try:
            zone = ZoneInfo(name)
        except (LookupError, ValueError, OSError):  # unknown, no name at all, or a folder of names
            raise ToolError(f"There is no time zone {name!r}; use an IANA name such as Europe/Berlin.") from None
        return f"{self._now().astimezone(zone):%A, %Y-%m-%dT%H:%M:%S%z} ({name})"
