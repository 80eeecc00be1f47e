"""The table at which the fold works: records fetched by key, changed in place, put back by the store.

The fold never asks a database. It reads and writes *records* (small mutable documents) through `Work.get` and `Work.put`;
a store decides where they live. Every key has a *domain* (16 bytes: a trace, an explicit task, a response id). All that a
transaction touches is covered by its domains, so locking the domains, sorted, is the whole of locking.

A store that keeps everything at hand (memory) answers at once. One that must fetch (Postgres) prefetches what
`walk.Trail` names, and what the fold says that it `want`s; what is asked for and was not fetched is fetched then, while the
fold waits in a thread of its own. Whoever waits for the fold may end it by raising `Interrupted` from `get` or from its `tick`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

#: domain (16 bytes) + kind (1 byte) + rest. Sorted by domain, so that one trace's records lie together.
Key = bytes

R = TypeVar("R", bound=msgspec.Struct)


class Interrupted(BaseException):
    """The fold is ended from outside, because of `reason`. No `Exception`: nothing within takes it for a fault of an observation's."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Work(Protocol):
    """**Protocol:** the records of one transaction.

    `get` returns the stored record or None, and the same object when asked again. `want` says which will be asked for next. A
    record that was changed in place must be `put`, else the change is lost. `drop` forgets a record.
    """

    def get(self, key: Key, kind: type[R]) -> R | None: ...

    def want(self, keys: Iterable[Key]) -> None: ...

    def put(self, key: Key, record: msgspec.Struct) -> None: ...

    def drop(self, key: Key) -> None: ...


def domain(key: Key) -> bytes:
    """Return the 16 bytes whose lock covers the key."""
    return key[:16]


class RecordSet(dict[bytes, R | None]):
    """The records of one kind that a batch uses: each is asked for once and, when it changed, put back once, by `flush`.

    `prefix` is what their keys begin with. A record that was changed in place must be `put`.
    """

    __duplicates_of__ = ("_changed", "_kind", "_prefix", "_work")

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

    def want(self, rests: Iterable[bytes]) -> None:
        """Say which records will be asked for next."""
        prefix = self._prefix
        if wanted := [prefix + rest for rest in rests if rest not in self]:
            self._work.want(wanted)

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
