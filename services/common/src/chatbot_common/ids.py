"""Identifiers: UUIDv7, so that keys sort by creation time and index pages fill in order (RFC 9562, 5.7)."""

from uuid import UUID

import uuid_utils


def uuid7() -> UUID:
    """A new time-ordered identifier."""
    return UUID(bytes=uuid_utils.uuid7().bytes)
