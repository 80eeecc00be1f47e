"""The fold's records in PostgreSQL: fetched by key, changed in memory, written back where they changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from spanpost.fold import records
from spanpost.fold.work import Key, Missing

#: The kind of a record by the byte after its domain.
_KINDS: dict[int, type[msgspec.Struct]] = {
    ord("c"): records.Cell,
    ord("u"): records.Unit,
    ord("k"): records.Kids,
    ord("g"): records.Group,
    ord("m"): records.Members,
    ord("n"): records.Offspring,
    ord("s"): records.Slot,
    ord("o"): records.Seen,
}
_decoders = {byte: msgspec.msgpack.Decoder(kind).decode for byte, kind in _KINDS.items()}
_encode = msgspec.msgpack.Encoder().encode

#: Up to so many records of one domain are fetched at once when the fold meets a key that was not foreseen.
WHOLE = 1000

_FETCH = "SELECT key, doc FROM kin WHERE key = ANY($1::bytea[])"
_FETCH_DOMAIN = "SELECT key, doc FROM kin WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
_SAVE = (
    "INSERT INTO kin (key, doc) SELECT * FROM unnest($1::bytea[], $2::bytea[])"
    " ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, touched_at = excluded.touched_at"
)
_DROP = "DELETE FROM kin WHERE key = ANY($1::bytea[])"


class Records:
    """A `Work` over what was fetched. `loaded` is the same as `walk.trail` reads it.

    `reset` throws away what the fold did, not what was fetched.
    """

    def __init__(self) -> None:
        self._raw: dict[Key, bytes | None] = {}
        self._live: dict[Key, msgspec.Struct | None] = {}
        self._put: dict[Key, msgspec.Struct] = {}
        self._dropped: set[Key] = set()
        self._whole: set[bytes] = set()
        #: Domains too large to be fetched whole.
        self._large: set[bytes] = set()

    # --- what the fold sees -------------------------------------------------------------------------------------------

    def get(self, key: Key, kind: Any = None) -> Any:
        try:
            return self._live[key]
        except KeyError:
            return self._find(key)

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self._live[key] = self._put[key] = record
        self._dropped.discard(key)

    def drop(self, key: Key) -> None:
        self._live[key] = None
        self._put.pop(key, None)
        self._dropped.add(key)

    def reset(self) -> None:
        self._live.clear()
        self._put.clear()
        self._dropped.clear()

    def _find(self, key: Key) -> msgspec.Struct | None:
        try:
            raw = self._raw[key]
        except KeyError:
            if key[:16] not in self._whole:
                raise Missing(key) from None
            raw = None
        record = None if raw is None else _decoders[key[16]](raw)
        self._live[key] = record
        return record

    def has(self, key: Key) -> bool:
        """Tell whether the record, or that there is none, is known."""
        return key in self._raw or key in self._live or key[:16] in self._whole

    def fetched(self) -> tuple[Key, ...]:
        """Return the keys that were fetched."""
        return tuple(self._raw)

    @property
    def loaded(self) -> Mapping[Key, msgspec.Struct | None]:
        return _Loaded(self)

    # --- what the database sees ---------------------------------------------------------------------------------------

    async def fetch(self, connection: Any, keys: Iterable[Key]) -> None:
        """Fetch records by key; those that are not there are known to be absent."""
        wanted = sorted(k for k in keys if not self.has(k))
        if not wanted:
            return
        for key in wanted:
            self._raw[key] = None
        for key, doc in await connection.fetch(_FETCH, wanted):
            self._raw[key] = doc

    async def fetch_around(self, connection: Any, key: Key) -> None:
        """Fetch a record that nobody foresaw, and with it its whole domain unless that is large."""
        domain = key[:16]
        if domain not in self._large:
            rows = await connection.fetch(_FETCH_DOMAIN, domain, domain + b"\xff" * 64, WHOLE + 1)
            for found, doc in rows:
                self._raw.setdefault(found, doc)
            if len(rows) <= WHOLE:
                self._whole.add(domain)
                return
            self._large.add(domain)
        await self.fetch(connection, (key,))

    async def save(self, connection: Any) -> None:
        """Write what was put and differs from what was fetched; delete what was dropped."""
        keys, docs = [], []
        for key in sorted(self._put):
            doc = _encode(self._put[key])
            if doc != self._raw.get(key):
                keys.append(key)
                docs.append(doc)
        if keys:
            await connection.execute(_SAVE, keys, docs)
        gone = sorted(k for k in self._dropped if self._raw.get(k) is not None)
        if gone:
            await connection.execute(_DROP, gone)


class _Loaded(Mapping[Key, "msgspec.Struct | None"]):
    """What was fetched: a key that was not is a key that is not in here."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._records.has(key)

    def __getitem__(self, key: Key) -> msgspec.Struct | None:
        if not self._records.has(key):
            raise KeyError(key)
        found: msgspec.Struct | None = self._records.get(key)
        return found

    def __iter__(self) -> Iterator[Key]:
        return iter(self._records.fetched())

    def __len__(self) -> int:
        return len(self._records.fetched())
