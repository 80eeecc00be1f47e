"""The fold's records in PostgreSQL: fetched by key, changed in memory, written back where they changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from spanpost.store.copying import copy_into, size
from spanpost.tasks import records
from spanpost.tasks.work import Key

#: The kind of a record by the byte after its domain.
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
    ord("l"): records.LinkedTraces,
    ord("w"): records.Conversation,
}
_decoders = {byte: msgspec.msgpack.Decoder(kind).decode for byte, kind in _KINDS.items()}
#: From these the trail leads on to other domains: units and groups.
_LEADING = frozenset(b"ug")
_encode = msgspec.msgpack.Encoder().encode

#: The number of columns of a row that is added.
_TWO = b"\0\2"
#: Neither a record nor its absence.
_UNKNOWN: Any = object()

#: Up to so many records of one domain are fetched at once when the fold meets a key that was not foreseen.
WHOLE = 1000
#: Records of one question: the loop stands while they are decoded.
_AT_ONCE = 4000
#: A domain with at most so many records is fetched whole, beforehand: most traces are small, and one question answers all.
SMALL = 100

# Arrays of keys travel as their text, and documents one behind the other with their sizes beside, because the driver asks of each element of an array, twice, what sort of object it is.
_FETCH = "SELECT key, doc FROM task_state WHERE key = ANY($1::text::bytea[])"
_FETCH_DOMAINS = (
    "SELECT found.key, found.doc FROM unnest($1::text::bytea[]) AS domain CROSS JOIN LATERAL ("
    "SELECT key, doc FROM task_state WHERE key >= domain AND key < domain || '\\xff'::bytea ORDER BY key LIMIT $2) AS found"
)
_FETCH_DOMAIN = "SELECT key, doc FROM task_state WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
_SAVE = (
    "INSERT INTO task_state (key, doc)"
    " SELECT substr($1::bytea, before + 1, key_size), substr($1::bytea, before + key_size + 1, doc_size) FROM ("
    "SELECT key_size, doc_size, (sum(key_size + doc_size) OVER (ORDER BY i) - key_size - doc_size)::int AS before FROM ("
    "SELECT given.k::int AS key_size, given.d::int AS doc_size, i"
    " FROM unnest(string_to_array($2::text, ','), string_to_array($3::text, ',')) WITH ORDINALITY AS given(k, d, i)) AS sized"
    " ORDER BY i) AS laid"
    " ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, touched_at = excluded.touched_at"
)
_DROP = "DELETE FROM task_state WHERE key = ANY($1::text::bytea[])"


def _array(items: Iterable[bytes]) -> str:
    """Return a bytea[] as PostgreSQL writes it."""
    return "{" + ",".join([r"\\x" + item.hex() for item in items]) + "}"


def _sizes(items: Iterable[bytes]) -> str:
    return ",".join([str(len(item)) for item in items])


def _cannot(keys: Sequence[Key]) -> None:
    raise KeyError(f"{len(keys)} records were not fetched")


class FetchedRecords:
    """A `Work` over what was fetched; `loaded` is what `walk.Trail` reads.

    `ask` brings what was not fetched while the fold waits: it is called in the fold's thread, and has `fetch` or `fetch_around`
    done in the loop.
    """

    def __init__(self, ask: Callable[[Sequence[Key]], None] = _cannot) -> None:
        self._ask = ask
        #: Records by key as they stand, None where there is none. Of domains that were fetched whole a record stands here
        #: once it was asked for (tasks and units always: the trail goes on from them), because most are never touched.
        self.loaded: dict[Key, msgspec.Struct | None] = {}
        self._raw: dict[Key, bytes | None] = {}
        self._put: dict[Key, msgspec.Struct] = {}
        self._dropped: set[Key] = set()
        #: Domains that were fetched whole, those of them that hold nothing yet, and those that are too large for that.
        self.whole: set[bytes] = set()
        self.new: set[bytes] = set()
        self._large: set[bytes] = set()
        #: The units and tasks that were fetched, in the order in which they came.
        self.leads: list[msgspec.Struct] = []
        #: Of domains that are fetched piece by piece: where that goes on, and how much comes next.
        self._pages: dict[bytes, tuple[Key, int]] = {}

    # --- what the fold sees -------------------------------------------------------------------------------------------

    def get(self, key: Key, kind: Any = None) -> Any:
        record = self.loaded.get(key, _UNKNOWN)
        if record is not _UNKNOWN:
            return record
        raw = self._raw.get(key, _UNKNOWN)
        if raw is _UNKNOWN:
            if key[:16] not in self.whole:
                self._ask((key,))
            raw = self._raw.get(key)
        record = self.loaded[key] = None if raw is None else _decoders[key[16]](raw)
        return record

    def is_known(self, key: Key) -> bool:
        """Tell whether it was fetched, or is known to be absent."""
        return key in self.loaded or key in self._raw or key[:16] in self.whole

    def want(self, keys: Iterable[Key]) -> None:
        """Fetch together what the fold will ask for."""
        asked = [key for key in keys if not self.is_known(key)]
        for start in range(0, len(asked), _AT_ONCE):
            self._ask(asked[start : start + _AT_ONCE])

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.loaded[key] = self._put[key] = record
        self._dropped.discard(key)

    def drop(self, key: Key) -> None:
        self.loaded[key] = None
        self._put.pop(key, None)
        self._dropped.add(key)

    # --- what the database sees ---------------------------------------------------------------------------------------

    async def fetch_domains(self, connection: Any, domains: Iterable[bytes]) -> None:
        """Fetch small domains whole, and of larger ones a part."""
        wanted = sorted(domain for domain in domains if not records.is_tenant(domain))
        rows = await connection.fetch(_FETCH_DOMAINS, _array(wanted), SMALL + 1)
        counts = Counter([row[0][:16] for row in rows])
        self.whole.update([domain for domain in wanted if counts[domain] <= SMALL])
        self.new.update([domain for domain in wanted if domain not in counts])
        self._take(rows)

    async def fetch(self, connection: Any, keys: Iterable[Key]) -> None:
        """Fetch records by key; those that are not there are known to be absent."""
        wanted = sorted(k for k in keys if k not in self.loaded and k not in self._raw)
        for start in range(0, len(wanted), _AT_ONCE):
            if start:
                await asyncio.sleep(0)  # others may go between
            some = wanted[start : start + _AT_ONCE]
            absent = dict.fromkeys(some)
            self._raw.update(absent)
            self.loaded.update(absent)
            self._take(await connection.fetch(_FETCH, _array(some)))

    async def fetch_around(self, connection: Any, key: Key) -> None:
        """Fetch a record that nobody foresaw, and with it its whole domain unless that is large."""
        domain = key[:16]
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
        """Fetch the next spans of a domain of which many are wanted one after the other: each time twice as many."""
        after, count = self._pages.get(domain, (domain + b"c", WHOLE))
        rows = await connection.fetch(_FETCH_DOMAIN, after, domain + b"d", min(count, _AT_ONCE))
        self._take(row for row in rows if row[0] not in self._raw)
        self._pages[domain] = (rows[-1][0] + b"\0" if rows else domain + b"d", 2 * count)

    def _take(self, rows: Iterable[Any]) -> None:
        raw, loaded, whole = self._raw, self.loaded, self.whole
        for key, doc in rows:
            raw[key] = doc
            kind = key[16]
            if kind in _LEADING or key[:16] not in whole:
                record = loaded[key] = _decoders[kind](doc)
                if kind in _LEADING:
                    self.leads.append(record)

    def changed(self) -> Changed:
        """Return what was put and differs from what was fetched, and what was dropped, as it is written."""
        keys, docs, added = [], [], []
        for key in sorted(self._put):
            doc = _encode(self._put[key])
            known = self._raw.get(key, _UNKNOWN)
            if known is None or (known is _UNKNOWN and key[:16] in self.whole):  # looked for, under its lock, and not there
                added.append(b"".join((_TWO, size(len(key)), key, size(len(doc)), doc)))
            elif doc != known:
                keys.append(key)
                docs.append(doc)
        laid = b"".join([part for pair in zip(keys, docs, strict=True) for part in pair])
        gone = sorted(k for k in self._dropped if self._raw.get(k) is not None)
        return Changed(added, laid, _sizes(keys), _sizes(docs), _array(gone) if gone else "")


class Changed(NamedTuple):
    """The records that a fold changed, ready to be written."""

    added: list[bytes]
    laid: bytes
    key_sizes: str
    doc_sizes: str
    gone: str

    async def save(self, connection: Any) -> None:
        if self.added:
            await copy_into(connection, "task_state", ("key", "doc"), self.added)
        if self.laid:
            await connection.execute(_SAVE, self.laid, self.key_sizes, self.doc_sizes)
        if self.gone:
            await connection.execute(_DROP, self.gone)


async def tenants_of(connection: Any, keys: Sequence[Key]) -> set[str]:
    """Return whose these tasks are, those that there are."""
    states = [_decoders[ord("g")](doc) for _, doc in await connection.fetch(_FETCH, _array(keys))]
    return {state.tenant for state in states if isinstance(state, records.TaskState)}
