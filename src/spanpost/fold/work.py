"""The table at which the fold works: records fetched by key, changed in place, put back by the ledger.

The fold never asks a database. It reads and writes *records* (small mutable documents) through `Work.get` and `Work.put`;
a ledger decides where they live. Every key has a *domain* (16 bytes: a trace, an explicit task, a response id). All that a
transaction touches is covered by its domains, so locking the domains, sorted, is the whole of locking.

A ledger that keeps everything at hand (memory) answers at once. One that must fetch (Postgres) prefetches what
`walk.trail` names; when the fold meets a key that was not fetched it raises `Missing`, the ledger fetches, throws the
half-done work away and folds again: the fold changes nothing but records, so that is safe. Of what only the fold can know
(which runs meet whom) it asks at a point from which it can go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

#: domain (16 bytes) + kind (1 byte) + rest. Sorted by domain, so that one trace's records lie together.
Key = bytes

R = TypeVar("R", bound=msgspec.Struct)


class Missing(Exception):
    """The fold needs records that were not fetched. The ledger fetches `keys` (and locks their domains) and folds again.

    With `go_on` nothing needs to be folded again: the fold stands where it asked, and goes on from there when that is called.
    """

    def __init__(self, *keys: Key) -> None:
        super().__init__(", ".join([key.hex() for key in keys[:4]]))
        self.keys = keys
        self.go_on: Callable[[], Any] | None = None


class Work(Protocol):
    """**Protocol:** the records of one transaction.

    `get` returns the stored record or None, and the same object when asked again; raises `Missing` when it was not
    fetched. A record that was changed in place must be `put`, else the change is lost. `drop` forgets a record.
    """

    def get(self, key: Key, kind: type[R]) -> R | None: ...

    def put(self, key: Key, record: msgspec.Struct) -> None: ...

    def drop(self, key: Key) -> None: ...


def domain(key: Key) -> bytes:
    """Return the 16 bytes whose lock covers the key."""
    return key[:16]


class Shelf(dict[bytes, R | None]):
    """The records of one kind that a batch uses: each is asked for once and, when it changed, put back once, by `flush`.

    `prefix` is what their keys begin with. A record that was changed in place must be `put`.
    """

    __slots__ = ("_changed", "_kind", "_prefix", "_work")

    def __init__(self, work: Work, kind: type[R], prefix: bytes = b"") -> None:
        super().__init__()
        self._work = work
        self._kind = kind
        self._prefix = prefix
        self._changed: set[bytes] = set()

    def __missing__(self, rest: bytes) -> R | None:
        record = self[rest] = self._work.get(self._prefix + rest, self._kind)
        return record

    # What is at hand is found without a call of ours: this is asked two dozen times a span.
    get = dict.__getitem__  # type: ignore[assignment]

    def put(self, rest: bytes, record: R) -> None:
        self[rest] = record
        self._changed.add(rest)

    def drop(self, rest: bytes) -> None:
        self[rest] = None
        self._changed.add(rest)

    def flush(self) -> None:
        """Hand what changed to the work."""
        for rest in self._changed:
            record = self[rest]
            if record is None:
                self._work.drop(self._prefix + rest)
            else:
                self._work.put(self._prefix + rest, record)
        self._changed.clear()
