"""Records of task state in PostgreSQL: fetched by key, changed in memory, written back if they changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from spanpost.store.copying import copy_into, size
from spanpost.tasks import records
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
    ord("l"): records.LinkedTraces,
    ord("w"): records.Conversation,
}
_decoders = {byte: msgspec.msgpack.Decoder(kind).decode for byte, kind in _KINDS.items()}
#: Records that link to other domains: subtrees and task states. `batches.Prefetch` follows them.
_LEADING = frozenset(b"ug")
_encode = msgspec.msgpack.Encoder().encode

#: Number of columns of a row in COPY.
_TWO = b"\0\2"
#: Marks a key of which it is not known whether it exists.
_UNKNOWN: Any = object()

#: Most records of one domain that are fetched at once when the fold needs a key that was not prefetched.
WHOLE = 1000
#: Records of one query: the event loop is blocked while they are decoded.
_AT_ONCE = 4000
#: A domain with at most this many records is prefetched whole: most traces are small, and one query fetches
#: all.
SMALL = 100

# Arrays of keys are sent as text, and documents as one value with a list of sizes, because the driver checks
# the type of each element of an array twice.
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
    """Return a bytea[] as PostgreSQL's text."""
    return "{" + ",".join([r"\\x" + item.hex() for item in items]) + "}"


def _sizes(items: Iterable[bytes]) -> str:
    return ",".join([str(len(item)) for item in items])


def _cannot(keys: Sequence[Key]) -> None:
    raise KeyError(f"{len(keys)} records were not fetched")


class FetchedRecords:
    """The fold's `Work` over fetched records; `batches.Prefetch` reads `loaded`.

    `ask` fetches missing records while the fold waits: it is called in the fold's thread and runs `fetch` or
    `fetch_around` in the event loop.
    """

    def __init__(self, ask: Callable[[Sequence[Key]], None] = _cannot) -> None:
        self._ask = ask
        #: Current records by key; None: there is none. Records of domains that were fetched whole are
        #: decoded when first used, because most never are (`_LEADING` records always are: prefetching goes
        #: on from them).
        self.loaded: dict[Key, msgspec.Struct | None] = {}
        self._raw: dict[Key, bytes | None] = {}
        self._put: dict[Key, msgspec.Struct] = {}
        self._dropped: set[Key] = set()
        #: Domains that were fetched whole; those of them without records; and domains that are too large.
        self.whole: set[bytes] = set()
        self.new: set[bytes] = set()
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
                self._ask((key,))
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
            self._ask(asked[start : start + _AT_ONCE])

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.loaded[key] = self._put[key] = record
        self._dropped.discard(key)

    def drop(self, key: Key) -> None:
        self.loaded[key] = None
        self._put.pop(key, None)
        self._dropped.add(key)

    # --- for the database --------------------------------------------------------------------------------------------

    async def fetch_domains(self, connection: Any, domains: Iterable[bytes]) -> None:
        """Fetch small domains whole, and the first records of larger ones."""
        wanted = sorted(domain for domain in domains if not records.is_tenant(domain))
        rows = await connection.fetch(_FETCH_DOMAINS, _array(wanted), SMALL + 1)
        counts = Counter([row[0][:16] for row in rows])
        self.whole.update([domain for domain in wanted if counts[domain] <= SMALL])
        self.new.update([domain for domain in wanted if domain not in counts])
        self._take(rows)

    async def fetch(self, connection: Any, keys: Iterable[Key]) -> None:
        """Fetch records by key; those without a row are known to be absent afterwards."""
        wanted = sorted(k for k in keys if k not in self.loaded and k not in self._raw)
        for start in range(0, len(wanted), _AT_ONCE):
            if start:
                await asyncio.sleep(0)  # let other tasks run
            some = wanted[start : start + _AT_ONCE]
            absent = dict.fromkeys(some)
            self._raw.update(absent)
            self.loaded.update(absent)
            self._take(await connection.fetch(_FETCH, _array(some)))

    async def fetch_around(self, connection: Any, key: Key) -> None:
        """Fetch a record that was not prefetched, and its whole domain unless that is large."""
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
        """Fetch the next page of a domain's spans; each page is twice as large as the one before."""
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
        """Return the records that differ from what was fetched, and those that were dropped, encoded."""
        keys, docs, added = [], [], []
        for key in sorted(self._put):
            doc = _encode(self._put[key])
            known = self._raw.get(key, _UNKNOWN)
            if known is None or (known is _UNKNOWN and key[:16] in self.whole):  # known to be absent
                added.append(b"".join((_TWO, size(len(key)), key, size(len(doc)), doc)))
            elif doc != known:
                keys.append(key)
                docs.append(doc)
        laid = b"".join([part for pair in zip(keys, docs, strict=True) for part in pair])
        gone = sorted(k for k in self._dropped if self._raw.get(k) is not None)
        return Changed(added, laid, _sizes(keys), _sizes(docs), _array(gone) if gone else "")


class Changed(NamedTuple):
    """The records that a fold changed, encoded."""

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
    """Return the tenants of the existing task states among these keys."""
    states = [_decoders[ord("g")](doc) for _, doc in await connection.fetch(_FETCH, _array(keys))]
    return {state.tenant for state in states if isinstance(state, records.TaskState)}
