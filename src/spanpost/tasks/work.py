"""Unit of work of the fold: records loaded by key, changed in place, written back by the store.

The fold never queries a database. It reads and writes *records* (small mutable documents) through `Work.get`
and `Work.put`; a store decides where they live. Every key has a *domain* (16 bytes: a trace, an explicit
task, a response id). The domains of a transaction cover everything that it touches, so locking them in
sorted order is all the locking.

A store in memory answers at once. A store that must fetch (PostgreSQL) prefetches the keys of
`prefetch.Prefetch` and those that the fold passes to `want`. It fetches any other key when the fold asks,
while the fold waits in its own thread. The caller can stop the fold by raising `Interrupted` from `get` or
from `tick`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

#: Domain (16 bytes), kind (1 byte), rest. Keys sort by domain, so that the records of one trace lie
#: together.
Key = bytes

R = TypeVar("R", bound=msgspec.Struct)


class Interrupted(BaseException):
    """The fold is stopped from outside for `reason`. No `Exception`: no handler may blame an observation."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Work(Protocol):
    """**Protocol:** the records of one transaction.

    `get` returns the stored record or None, and the same object on every call. `want` announces the next
    keys. A record that was changed in place must be `put`, or the change is lost. `drop` deletes a record.
    """

    def get(self, key: Key, kind: type[R]) -> R | None: ...

    def want(self, keys: Iterable[Key]) -> None: ...

    def put(self, key: Key, record: msgspec.Struct) -> None: ...

    def drop(self, key: Key) -> None: ...


def domain(key: Key) -> bytes:
    """Return the 16 bytes whose lock covers the key."""
    return key[:16]


class RecordSet(dict[bytes, R | None]):
    """Cache of one kind of record for a batch. Each is fetched once; `flush` writes back those that changed.

    `prefix` is the start of their keys. A record that was changed in place must be `put`.
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

    # A cached record is found without a Python call: this runs two dozen times a span.
    get = dict.__getitem__  # type: ignore[assignment]

    def want(self, rests: Iterable[bytes]) -> None:
        """Announce the records that are needed next."""
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
        """Write the changed records to the work."""
        for rest in self._changed:
            record = self[rest]
            if record is None:
                self._work.drop(self._prefix + rest)
            else:
                self._work.put(self._prefix + rest, record)
        self._changed.clear()
