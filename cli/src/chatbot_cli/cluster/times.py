"""Times of the API, for people."""

from datetime import UTC, datetime

from chatbot_cli.durations import duration


def parse(text: str) -> datetime | None:
    """RFC 3339, with or without fractions; None for anything else."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def seconds_since(text: str, now: datetime) -> float | None:
    """Never negative: clocks differ by a little."""
    then = parse(text)
    return max(0.0, (now - then).total_seconds()) if then else None


def age(text: str, now: datetime) -> str:
    """Such as `3 min 20 s`; empty when it is no time."""
    passed = seconds_since(text, now)
    return "" if passed is None else duration(int(passed))


def since(text: str, now: datetime) -> str:
    """Such as `since 3 min 20 s (2026-11-21 09:04 UTC)`."""
    then = parse(text)
    return f"for {age(text, now)}, since {then.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if then else ""
