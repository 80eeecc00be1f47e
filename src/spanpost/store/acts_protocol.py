"""The protocol of acts as auditors read them: one role of the store (`spanpost.store.protocols`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spanpost.model.acts import ActFilter, ActRow, ContentRead, Operation, ReadRow
from spanpost.model.queries import Page


class Acts(Protocol):
    """**Protocol:** the rows of acts, and of content that was read."""

    async def listed(self, asked: ActFilter, after: int | None, limit: int) -> Page[ActRow]:
        """**Protocol:** return a page of acts, in the order in which they were recorded; newest first unless asked.

        `after`: the number of the last act of the page before.
        """
        ...

    async def reads(self, asked: ActFilter, limit: int) -> list[ReadRow]:
        """**Protocol:** return who read content, newest hour first. A filter with a source or a verb matches none."""
        ...

    async def count_reads(self, reads: Sequence[ContentRead]) -> None:
        """**Protocol:** add reads to the rows of their hours. Not safe to repeat."""
        ...

    async def note_operation(self, operation: Operation) -> None:
        """**Protocol:** record an operation on the database or a gateway. Repeated, it is recorded again."""
        ...
