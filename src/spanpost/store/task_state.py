"""Records of task state in PostgreSQL: fetched by key, changed in memory, written back if they changed.

Most domains are small: a trace of twenty spans has thirty records, a response id one. The records of a small
domain are one row, a *pack*, whose key is the domain. A domain that outgrows `SMALL` or `_PACK` is laid apart
for good: each record has a row of its own, and the row of the domain stays as an empty marker. So an event
rewrites some kilobytes at most, however large its trace is.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from spanpost.store.compression import compressed, decompressed
from spanpost.store.copying import copy_into, size
from spanpost.store.erasing.tombstones import SETS
from spanpost.tasks import records
from spanpost.tasks.record_keys import is_tenant
from spanpost.tasks.work import Key

#: Record types by the byte after the domain in the key.
_KINDS: dict[int, type[msgspec.Struct]] = {
    ord("c"): records.Node,
    ord("u"): records.Subtree,
    ord("k"): records.ChildRoots,
    ord("g"): records.TaskState,
    ord("m"): records.Members,
    ord("n"): records.ChildTasks,
    ord("s"): records.DuplicateCalls,
    ord("o"): records.Seen,
    ord("r"): records.RunCandidates,
    ord("l"): records.RunCandidates,
    ord("w"): records.Conversation,
}
_decoders = {byte: msgspec.msgpack.Decoder(kind).decode for byte, kind in _KINDS.items()}
#: Records that link to other domains: subtrees and task states. `prefetch.Prefetch` follows them.
_LEADING = frozenset(b"ug")
#: Records that tie traces together: duplicate calls, run candidates, linked traces. `retention` reads them.
TIES = frozenset(b"srl")
_encode = msgspec.msgpack.Encoder().encode
_decode_pack = msgspec.msgpack.Decoder(dict[bytes, msgspec.Raw]).decode

#: Marks a key of which it is not known whether it exists.
_UNKNOWN: Any = object()

#: Most records of one domain that are fetched at once when the fold needs a key that was not prefetched.
WHOLE = 1000
#: Records of one query: the event loop is blocked while they are decoded.
_AT_ONCE = 1000
#: Most records of a pack, and its most bytes before it is compressed: an event on a live task rewrites it.
SMALL = 100
_PACK = 16_384

#: A row in COPY: number of columns, whether it ties traces together, sizes of key and document.
_row = struct.Struct(">hi?i").pack
#: In place of a pack: the domain's records are rows of their own.
_APART = b""

# Arrays of keys are sent as text, and documents as one value with a list of sizes, because the driver checks
# the type of each element of an array twice.
_FETCH = "SELECT key, doc FROM task_state WHERE key = ANY($1::text::bytea[])"
#: The same, and which of the traces are erased, in one statement after the locks were taken.
_FETCH_LIVING = (
    "SELECT key, doc, NULL::timestamptz FROM task_state WHERE key = ANY($1::text::bytea[]) UNION ALL "
    "SELECT key, NULL, erased_at FROM erased_traces WHERE key = ANY($2::text::bytea[])"
)
_FETCH_DOMAIN = "SELECT key, doc FROM task_state WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3"
_SAVE = (
    "INSERT INTO task_state (key, doc, ties) SELECT substr($1::bytea, before + 1, key_size), substr($1::bytea, before "
    "+ key_size + 1, doc_size), ties FROM (SELECT key_size, doc_size, ties, (sum(key_size + doc_size) OVER (ORDER BY "
    "i) - key_size - doc_size)::int AS before FROM (SELECT given.k::int AS key_size, given.d::int AS doc_size, given.t "
    "= 't' AS ties, i FROM unnest(string_to_array($2::text, ','), string_to_array($3::text, ','), "
    "string_to_array($4::text, ',')) WITH ORDINALITY AS given(k, d, t, i)) AS sized ORDER BY i) AS laid ON CONFLICT "
    "(key) DO UPDATE SET doc = excluded.doc, ties = excluded.ties, touched_at = excluded.touched_at"
)
_DROP = "DELETE FROM task_state WHERE key = ANY($1::text::bytea[])"


def _array(items: Iterable[bytes]) -> str:
    """Return a bytea[] as PostgreSQL's text."""
    return "{" + ",".join([r"\\x" + item.hex() for item in items]) + "}"


def _sizes(items: Iterable[bytes]) -> str:
    return ",".join([str(len(item)) for item in items])


#: Rows by key: whether one exists, what it becomes (None: it goes), and whether it ties traces together.
Rows = dict[Key, tuple[bool, bytes | None, bool]]
#: The documents of records by the rest of their keys; a new or changed record is not encoded yet.
Pack = dict[bytes, msgspec.Raw | msgspec.Struct]


def unpacked(key: Key, doc: bytes) -> Mapping[Key, bytes | msgspec.Raw]:
    """Return the documents of a row by the rest of their keys: those of a pack, or the one."""
    if len(key) > 16:
        return {key[16:]: doc}
    return _decode_pack(decompressed(doc)) if doc else {}


def _cannot(records: FetchedRecords, keys: Sequence[Key]) -> None:
    raise KeyError(f"{len(keys)} records were not fetched")


class FetchedRecords:
    """The fold's `Work` over fetched records; `prefetch.Prefetch` reads `loaded`.

    `ask` fetches missing records while the fold waits: it is called in the fold's thread and runs `fetch` or
    `fetch_around` in the event loop. It is given the records, and must not hold them: a cycle would keep all
    records of a transaction until garbage is collected.
    """

    def __init__(
        self,
        ask: Callable[[FetchedRecords, Sequence[Key]], None] = _cannot,
        tombstones: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self._ask = ask
        #: Domains by their tombstones, until the first fetch; then the domains that have one, and since when attribute
        #: sets count.
        self._tombstones = tombstones
        self.erased: set[bytes] = set()
        self.sets_since: datetime | None = None
        #: Current records by key; None: there is none. Records of domains that were fetched whole are
        #: decoded when first used, because most never are (`_LEADING` records always are: prefetching goes
        #: on from them).
        self.loaded: dict[Key, msgspec.Struct | None] = {}
        self._raw: dict[Key, bytes | msgspec.Raw | None] = {}
        self._put: dict[Key, msgspec.Struct] = {}
        self._dropped: set[Key] = set()
        #: Domains that are known completely; those of them that have no records.
        self.whole: set[bytes] = set()
        self.new: set[bytes] = set()
        #: The packs that were fetched, by domain: as they were encoded, and by the rest of the key. Domains whose
        #: records are rows of their own.
        self._packs: dict[bytes, tuple[bytes, dict[Key, msgspec.Raw]]] = {}
        self._apart: set[bytes] = set()
        #: Of the latter those with more than `WHOLE` records.
        self._large: set[bytes] = set()
        #: The `_LEADING` records that were fetched, in order.
        self.leads: list[msgspec.Struct] = []
        #: For domains that are fetched in pages: the next key and the size of the next page.
        self._pages: dict[bytes, tuple[Key, int]] = {}

    # --- for the fold ------------------------------------------------------------------------------------------------

    def get(self, key: Key, kind: Any = None) -> Any:
        record = self.loaded.get(key, _UNKNOWN)
        if record is not _UNKNOWN:
            return record
        raw = self._raw.get(key, _UNKNOWN)
        if raw is _UNKNOWN:
            if key[:16] not in self.whole:
                self._ask(self, (key,))
            raw = self._raw.get(key)
        record = self.loaded[key] = None if raw is None else _decoders[key[16]](raw)
        return record

    def is_known(self, key: Key) -> bool:
        """Return whether the key was fetched or is known to be absent."""
        return key in self.loaded or key in self._raw or key[:16] in self.whole

    def want(self, keys: Iterable[Key]) -> None:
        """Fetch the missing ones of these keys together."""
        asked = [key for key in keys if not self.is_known(key)]
        for start in range(0, len(asked), _AT_ONCE):
            self._ask(self, asked[start : start + _AT_ONCE])

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.loaded[key] = self._put[key] = record
        self._dropped.discard(key)

    def drop(self, key: Key) -> None:
        self.loaded[key] = None
        self._put.pop(key, None)
        self._dropped.add(key)

    # --- for the database --------------------------------------------------------------------------------------------

    async def fetch_domains(self, connection: Any, domains: Iterable[bytes]) -> None:
        """Fetch the packs of domains."""
        await self.fetch(connection, [d for d in domains if not is_tenant(d) and d not in self._apart])

    async def fetch(self, connection: Any, keys: Iterable[Key]) -> None:
        """Fetch records by key, and the packs of their domains.

        Those without a row are known to be absent afterwards.
        """
        wanted = sorted(k for k in keys if not self.is_known(k))
        for start in range(0, len(wanted), _AT_ONCE):
            if start:
                await asyncio.sleep(0)  # let other tasks run
            await self._fetch(connection, wanted[start : start + _AT_ONCE])

    async def _fetch(self, connection: Any, wanted: Sequence[Key]) -> None:
        domains = {key[:16] for key in wanted} - self._apart - self.whole
        single = []
        asked = _array(sorted(domains.union(wanted)))
        tombstones, self._tombstones = self._tombstones, None
        if tombstones is None:
            rows = await connection.fetch(_FETCH, asked)
        else:
            rows = self._living(await connection.fetch(_FETCH_LIVING, asked, _array(tombstones)), tombstones)
        for key, doc in rows:
            if len(key) > 16:
                single.append((key, doc))
            elif doc:
                self.whole.add(key)
                raw = decompressed(doc)
                pack = _decode_pack(raw)
                self._packs[key] = raw, pack
                self._take((key + rest, record) for rest, record in pack.items())
            else:
                self._apart.add(key)
        new = domains - self._apart - self.whole
        self.whole |= new
        self.new |= new
        absent = dict.fromkeys([key for key in wanted if len(key) > 16 and key[:16] not in self.whole])
        self._raw.update(absent)
        self.loaded.update(absent)
        self._take(single)

    def _living(self, rows: Sequence[Any], tombstones: Mapping[bytes, bytes]) -> list[tuple[Key, bytes]]:
        """Take the tombstones out of fetched rows."""
        found = []
        for key, doc, erased_at in rows:
            if erased_at is None:
                found.append((key, doc))
            elif key == SETS:
                self.sets_since = erased_at
            else:
                self.erased.add(tombstones[key])
        return found

    async def fetch_around(self, connection: Any, key: Key) -> None:
        """Fetch a record that was not prefetched, and its whole domain unless that is large."""
        domain = key[:16]
        await self.fetch_domains(connection, (domain,))
        if domain in self.whole:
            return
        if domain not in self._large:
            rows = await connection.fetch(_FETCH_DOMAIN, domain, domain + b"\xff" * 64, WHOLE + 1)
            if len(rows) <= WHOLE:
                self.whole.add(domain)
            self._take(row for row in rows if row[0] not in self._raw)
            if domain in self.whole:
                return
            self._large.add(domain)
        await self.fetch(connection, (key,))

    async def fetch_more(self, connection: Any, domain: bytes) -> None:
        """Fetch the next page of a domain's spans; each page is twice as large as the one before."""
        after, count = self._pages.get(domain, (domain + b"c", WHOLE))
        rows = await connection.fetch(_FETCH_DOMAIN, after, domain + b"d", min(count, _AT_ONCE))
        self._take(row for row in rows if row[0] not in self._raw)
        self._pages[domain] = (rows[-1][0] if rows else domain + b"d", 2 * count)

    def _take(self, rows: Iterable[Any]) -> None:
        raw, loaded, whole = self._raw, self.loaded, self.whole
        for key, doc in rows:
            raw[key] = doc
            kind = key[16]
            if key in self._put:
                continue
            if kind in _LEADING or key[:16] not in whole:
                record = loaded[key] = _decoders[kind](doc)
                if kind in _LEADING:
                    self.leads.append(record)

    def changed(self) -> Changed:
        """Return the rows that differ from what was fetched, and those that are dropped, encoded."""
        touched: defaultdict[bytes, list[Key]] = defaultdict(list)
        keys = self._put.keys() | self._dropped
        if unknown := [key for key in keys if key[:16] not in self.whole and key[:16] not in self._apart]:
            self._ask(self, unknown)  # a pack is replaced as a whole
        for key in keys:
            touched[key[:16]].append(key)
        found: Rows = {}
        for domain, changed in touched.items():
            if domain in self._apart:
                self._lay_apart(changed, found)
            else:
                self._lay(domain, changed, found)
        return _encoded(found)

    def _lay_apart(self, keys: Iterable[Key], found: Rows) -> None:
        """Add the rows that differ from the fetched ones."""
        for key in keys:
            record = self._put.get(key)
            doc = None if record is None else _encode(record)
            known = self._raw.get(key, None if key[:16] in self.whole else b"")
            if doc != known:
                found[key] = (known is not None, doc, key[16] in TIES)

    def _lay(self, domain: bytes, keys: Iterable[Key], found: Rows) -> None:
        """Add the rows of a domain that was a pack, or new: a pack again, or each record by itself."""
        known, records = self._packs.get(domain, (b"", {}))
        pack: Pack = {**records}
        for key in keys:
            record = self._put.get(key)
            if record is None:
                pack.pop(key[16:], None)
            else:
                pack[key[16:]] = record
        is_small = len(pack) <= SMALL
        raw = _encode(dict(sorted(pack.items()))) if is_small and pack else b""
        if is_small and raw == known:
            return
        stored = (compressed(raw) if is_small and len(raw) <= _PACK else _APART) if pack else None
        found[domain] = (domain not in self.new, stored, bool(stored) and any(rest[0] in TIES for rest in pack))
        if stored is _APART:
            found.update({domain + rest: (False, _encode(doc), rest[0] in TIES) for rest, doc in pack.items()})


def _encoded(found: Rows) -> Changed:
    added, laid, keys, docs, ties, gone = [], [], [], [], [], []
    for key in sorted(found):
        exists, doc, is_tie = found[key]
        if doc is None:
            if exists:
                gone.append(key)
        elif exists:
            laid += [key, doc]
            keys.append(key)
            docs.append(doc)
            ties.append("t" if is_tie else "f")
        else:
            added.append(b"".join((_row(3, 1, is_tie, len(key)), key, size(len(doc)), doc)))
    return Changed(added, b"".join(laid), _sizes(keys), _sizes(docs), ",".join(ties), _array(gone) if gone else "")


class Changed(NamedTuple):
    """The rows that a fold changed, encoded."""

    added: list[bytes]
    laid: bytes
    key_sizes: str
    doc_sizes: str
    ties: str
    gone: str

    async def save(self, connection: Any) -> None:
        if self.added:
            await copy_into(connection, "task_state", ("ties", "key", "doc"), self.added)
        if self.laid:
            await connection.execute(_SAVE, self.laid, self.key_sizes, self.doc_sizes, self.ties)
        if self.gone:
            await connection.execute(_DROP, self.gone)


async def tenants_of(connection: Any, keys: Sequence[Key]) -> set[str]:
    """Return the tenants of the existing task states among these keys."""
    found = FetchedRecords()
    await found.fetch(connection, keys)
    return {state.tenant for key in keys if isinstance(state := found.get(key), records.TaskState)}
