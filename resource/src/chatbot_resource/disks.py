"""Disks of stores that the operator runs, as rules that compare a spec with the one before it: a disk can only grow.

On the spec and not on their fields: who removes a field, and writes it again in another edit, would pass a rule there.
What is not written counts as what it becomes. Where no such store was before, or is any more, nothing is kept.
"""

from chatbot_resource.cel import Rule, before, value_or, written
from chatbot_resource.stores import DISK, DISK_DEV

_STANDARD, _WEAVIATE, _MANAGED = "'Standard'", "'Weaviate'", "'Managed'"


def disk_rules(postgres_mode: str) -> tuple[Rule, ...]:
    """
    Args:
        postgres_mode: CEL for it.
    """
    postgres = f"{postgres_mode} == {before(postgres_mode)} && {postgres_mode} != 'External'"
    managed = (
        f"{value_or('stores.vectors.type', _WEAVIATE)} == {_WEAVIATE}"
        f" && {value_or('stores.vectors.mode', _MANAGED)} == {_MANAGED}"
    )
    vectors = f"{managed} && {before(managed)}"
    return (*_rules("postgres", postgres), *_rules("vectors", vectors))


def _rules(store: str, same: str) -> tuple[Rule, Rule]:
    """
    Args:
        same: CEL for whether the store is the one it was.
    """
    field = f"stores.{store}.storage"
    size, name = f"{field}.size", value_or(f"{field}.className", "''")
    # Another profile with nothing written about the disk is no wish for a smaller one: the operator keeps what it has.
    unwritten = f"(!{written(size)} && !{before(written(size))})"
    grown = f"quantity({_size(size)}).compareTo(quantity({before(_size(size))})) >= 0"
    return (
        Rule(
            f"!({same}) || {unwritten} || {grown}",
            f"stores.{store}: a disk can grow, but not shrink: set storage.size to at least the size it has",
        ),
        Rule(
            f"!({same}) || {name} == {before(name)}",
            f"stores.{store}: the StorageClass of a disk cannot be changed: put storage.className back as it was",
        ),
    )


def _size(field: str) -> str:
    """CEL: its amount as text; resolve_disk in profiles.py says the same."""
    profile = f"({value_or('profile', _STANDARD)} == 'Dev' ? '{DISK_DEV}' : '{DISK}')"
    return f"({written(field)} ? string(self.{field}) : {profile})"
