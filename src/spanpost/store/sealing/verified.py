"""The result of a verification."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

#: Receives the number of leaves and archived rows that were checked, and the number of all.
Show = Callable[[int, int], None]
#: Findings that are described; more are counted.
MOST: Final = 1_000


class Steps:
    """Adds up what was checked, for `show`."""

    def __init__(self, total: int, show: Show) -> None:
        self._done, self._total, self._show = 0, total, show

    def add(self, count: int) -> None:
        self._done += count
        self._show(self._done, self._total)


class LogFinding(msgspec.Struct, frozen=True):
    """What is wrong. `leaf`: the leaf that it concerns; None: the log, an archive, or a row without a leaf."""

    tenant: str
    what: str
    leaf: int | None = None


class LetGo(msgspec.Struct, frozen=True):
    """A note of the log: rows that were erased, archived or pruned. Its owner can write one, too: read who and why."""

    tenant: str
    kind: str
    at: datetime
    actor: str
    reason: str
    rows: int
    #: SHA-256 of the archive's file, hex; None: the rows are gone.
    archive: str | None


class Verified(msgspec.Struct, kw_only=True):
    """The result for all logs."""

    logs: int = 0
    leaves: int = 0
    #: Leaves whose rows are in the tables, unchanged.
    rows: int = 0
    #: Leaves of rows that were erased or pruned: notes of the log say so.
    erased: int = 0
    #: Leaves whose rows are in an archive: notes of the log say so, and the file was read unless it is `not_checked`.
    archived: int = 0
    #: Leaves after the last checkpoint: nothing has signed them yet.
    unsigned: int = 0
    checkpoints: int = 0
    #: Archives whose file was compared with its SHA-256 and, where its rows have leaves, with these.
    archives: int = 0
    #: Archives whose file was not read, and why.
    not_checked: int = 0
    not_checked_why: str = ""
    #: The newest of the log's notes about rows that left.
    let_go: list[LetGo] = []
    findings: list[LogFinding] = []
    more_findings: int = 0

    def add(self, tenant: str, what: str, leaf: int | None = None) -> None:
        """Add a finding."""
        if len(self.findings) < MOST:
            self.findings.append(LogFinding(tenant, what, leaf))
        else:
            self.more_findings += 1
