"""The fold's records in PostgreSQL: fetched by key, changed in memory, written back where they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
#: A domain with at most so many records is fetched whole, beforehand: most traces are small, and one question answers all.
SMALL = 100

_FETCH = "SELECT key, doc FROM kin WHERE key = ANY($1::bytea[])"
_FETCH_DOMAINS = (
    "SELECT found.key, found.doc FROM unnest($1::bytea[]) AS domain CROSS JOIN LATERAL ("
    "SELECT key, doc FROM kin WHERE key >= domain AND key < domain || '\\xff'::bytea ORDER BY key LIMIT $2) AS found"
)
_FETCH_DOMAIN = "SELECT key, doc FROM kin WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
_SAVE = (
    "INSERT INTO kin (key, doc) SELECT * FROM unnest($1::bytea[], $2::bytea[])"
    " ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, touched_at = excluded.touched_at"
)
_DROP = "DELETE FROM kin WHERE key = ANY($1::bytea[])"


class Records:
    """A `Work` over what was fetched; `loaded` is what `walk.trail` reads.

    `reset` throws away what the fold did, not what was fetched.
    """

    def __init__(self) -> None:
        #: Records by key as they stand, None where there is none. A plain dict: the trail looks at it a dozen times a span.
        self.loaded: dict[Key, msgspec.Struct | None] = {}
        self._raw: dict[Key, bytes | None] = {}
        self._put: dict[Key, msgspec.Struct] = {}
        self._dropped: set[Key] = set()
        #: Domains that were fetched whole, and those that are too large for that.
        self.whole: set[bytes] = set()
        self._large: set[bytes] = set()

    # --- what the fold sees -------------------------------------------------------------------------------------------

    def get(self, key: Key, kind: Any = None) -> Any:
        try:
            return self.loaded[key]
        except KeyError:
            if key[:16] in self.whole:
                return None
            raise Missing(key) from None

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.loaded[key] = self._put[key] = record
        self._dropped.discard(key)

    def drop(self, key: Key) -> None:
        self.loaded[key] = None
        self._put.pop(key, None)
        self._dropped.add(key)

    def reset(self) -> None:
        self._put.clear()
        self._dropped.clear()
        self.loaded.clear()
        for key, raw in self._raw.items():
            self.loaded[key] = None if raw is None else _decoders[key[16]](raw)

    # --- what the database sees ---------------------------------------------------------------------------------------

    async def fetch_domains(self, connection: Any, domains: Iterable[bytes]) -> None:
        """Fetch small domains whole, and of larger ones a part."""
        wanted = sorted(domains)
        rows = await connection.fetch(_FETCH_DOMAINS, wanted, SMALL + 1)
        self._take(rows)
        counts = Counter(row[0][:16] for row in rows)
        self.whole.update(domain for domain in wanted if counts[domain] <= SMALL)

    async def fetch(self, connection: Any, keys: Iterable[Key]) -> None:
        """Fetch records by key; those that are not there are known to be absent."""
        wanted = sorted(k for k in keys if k not in self.loaded)
        if wanted:
            absent = dict.fromkeys(wanted)
            self._raw.update(absent)
            self.loaded.update(absent)
            self._take(await connection.fetch(_FETCH, wanted))

    async def fetch_around(self, connection: Any, key: Key) -> None:
        """Fetch a record that nobody foresaw, and with it its whole domain unless that is large."""
        domain = key[:16]
        if domain not in self._large:
            rows = await connection.fetch(_FETCH_DOMAIN, domain, domain + b"\xff" * 64, WHOLE + 1)
            self._take(row for row in rows if row[0] not in self._raw)
            if len(rows) <= WHOLE:
                self.whole.add(domain)
                return
            self._large.add(domain)
        await self.fetch(connection, (key,))

    def _take(self, rows: Iterable[Any]) -> None:
        for key, doc in rows:
            self._raw[key] = doc
            self.loaded[key] = _decoders[key[16]](doc)

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
