"""Cursor pages in SQL: the rows after or before one item of an ordered list."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Select, Table, select, tuple_
from sqlalchemy.sql.elements import UnaryExpression

from chatbot_conversation.wire import AnyWindow


def windowed(
    query: Select[Any],
    table: Table | CTE,
    order: Sequence[ColumnElement[Any]],
    window: AnyWindow,
    *,
    descending: bool,
    owner: UUID | None = None,
) -> Select[Any]:
    """`query` limited to a window, one row more than asked so that `has_more` is known.

    Args:
        query: already filtered to what the caller may see.
        order: columns that order the list; the last one is the table's `id`, so that the order is total.
        descending: whether the list starts with the largest.
        owner: user whose rows these are, where the table is partitioned by user.
    """
    backwards = window.before is not None
    down = descending != backwards
    if cursor := window.before or window.after:
        here, there = tuple_(*order), _position(table, order, cursor, owner)
        query = query.where(here < there if down else here > there)
    sorting: list[UnaryExpression[Any]] = [column.desc() if down else column.asc() for column in order]
    return query.order_by(*sorting).limit(window.limit + 1)


def _position(
    table: Table | CTE, order: Sequence[ColumnElement[Any]], cursor: object, owner: UUID | None
) -> ColumnElement[Any]:
    """Where the item is. A cursor that is not (or no longer) in the list gives an empty page."""
    twin = table.alias("cursor")
    query = select(*(twin.c[str(column.key)] for column in order)).where(twin.c.id == cursor)
    return (query.where(twin.c.user_id == owner) if owner else query).scalar_subquery()
