"""What an erasure selects: spellings of a person, and the trees of tasks that go whole.

The unit of erasure is a *tree*: a root task with all tasks below it and all their traces. What is computed from a
span (names, costs, counts) lies in the state of its tree, so a tree goes as a whole. The tree of a person is one
whose task was requested by the person, or whose spans name the person as their user.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from spanpost.model.errors import ConfigError
from spanpost.store.erasing.spellings import Found, Spellings

#: A tenant and a trace id.
Trace = tuple[str, bytes]
#: Rows that are read at once.
CHUNK: Final = 5_000
#: Rounds in which ids lead to more ids of the same person, and tasks to more tasks of the same tree.
_ROUNDS: Final = 20

#: Columns of the same person, side by side: name, id, email address.
_PEOPLE: Final = """
SELECT tenant, actor AS name, actor_id AS id, actor_email AS email FROM human_interventions
UNION SELECT tenant, by, by_id, '' FROM approvals
UNION SELECT tenant, v ->> 'by', v ->> 'by_id', coalesce(v ->> 'email', '')
  FROM approvals, jsonb_array_elements(votes) AS v
UNION SELECT tenant, granted_by, granted_by_id, granted_by_email FROM standing_approvals
UNION SELECT tenant, revoked_by, revoked_by_id, '' FROM standing_approvals
UNION SELECT tenant, by, by_id, '' FROM evaluations
UNION SELECT tenant, by, by_id, '' FROM launch_orders
UNION SELECT tenant, name, id, email
  FROM json_to_recordset($4::text::json) AS g(tenant text, name text, id text, email text)"""
_SAME: Final = f"""
SELECT DISTINCT name, id, email FROM ({_PEOPLE}) AS p WHERE ($2::text IS NULL OR tenant = $2)
  AND (lower(id) = ANY($1::text[]) OR lower(email) = ANY($1::text[]) OR lower(name) = ANY($3::text[]))"""
_COMMENTS: Final = """
SELECT DISTINCT comment FROM human_interventions WHERE comment <> '' AND (lower(actor_id) = ANY($1::text[])
  OR lower(actor_email) = ANY($1::text[]) OR actor_id = '' AND lower(actor) = ANY($2::text[]))
UNION SELECT DISTINCT comment FROM approvals
  WHERE comment <> '' AND (lower(by_id) = ANY($1::text[]) OR by_id = '' AND lower(by) = ANY($2::text[]))
UNION SELECT DISTINCT explanation FROM evaluations
  WHERE explanation <> '' AND (lower(by_id) = ANY($1::text[]) OR by_id = '' AND lower(by) = ANY($2::text[]))"""

_IS_ASKED: Final = """($1::text IS NULL OR t.tenant = $1) AND ($2::timestamptz IS NULL OR
  coalesce(t.started_at, t.last_seen_at) >= $2) AND ($3::timestamptz IS NULL OR
  coalesce(t.started_at, t.last_seen_at) < $3)"""
_TASKS: Final = f"SELECT t.uid FROM agent_tasks t WHERE {_IS_ASKED}"
_BY_ID: Final = f"{_TASKS} AND (t.task_id = $4 OR t.aliases @> to_jsonb($4::text))"
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OF_REQUESTER: Final = f"{_TASKS} AND lower(t.requested_by) = ANY($4::text[])"
_AMONG: Final = f"{_TASKS} AND t.uid = ANY($4::uuid[])"
#: Rows of spans (not of people's acts, part 5) that may name the person as their user.
_MAY_OWN: Final = """
SELECT r.tenant, r.trace_id, r.task_uid, r.attributes::text AS own, s.attributes::text AS shared,
  coalesce(r.resource, s.resource)::text AS resource
FROM audit_rows r LEFT JOIN attribute_sets s ON s.id = r.set_id
WHERE r.part <> 5 AND ($1::text IS NULL OR r.tenant = $1)
  AND ($2::timestamptz IS NULL OR r.occurred_at >= $2) AND ($3::timestamptz IS NULL OR r.occurred_at < $3)
  AND (r.set_id = ANY($5::bigint[]) OR r.attributes::text ILIKE ANY($4::text[])
    OR r.resource::text ILIKE ANY($4::text[]))
  AND ($6::timestamptz IS NULL OR r.received_at >= $6)"""
_MAY_OWN_SETS: Final = """
SELECT id FROM attribute_sets WHERE attributes::text ILIKE ANY($1::text[]) OR resource::text ILIKE ANY($1::text[])"""
_UNPLACED: Final = """
SELECT DISTINCT tenant, trace_id FROM audit_rows WHERE task_uid IS NULL AND length(trace_id) = 16
  AND ($1::text IS NULL OR tenant = $1) AND ($2::timestamptz IS NULL OR occurred_at >= $2)
  AND ($3::timestamptz IS NULL OR occurred_at < $3)"""

#: Tasks of the same trees: by root, by parent, by redirect.
_BESIDE: Final = """
SELECT a.uid AS one, b.uid AS other FROM agent_tasks a JOIN agent_tasks b ON b.root_uid = coalesce(a.root_uid, a.uid)
WHERE a.uid = ANY($1::uuid[])
UNION SELECT a.uid, coalesce(a.root_uid, a.uid) FROM agent_tasks a WHERE a.uid = ANY($1::uuid[])
UNION SELECT a.uid, b.uid FROM agent_tasks a JOIN agent_tasks b ON b.parent_uid = a.uid WHERE a.uid = ANY($1::uuid[])
UNION SELECT r.merged_into, r.uid FROM task_redirects r WHERE r.merged_into = ANY($1::uuid[])"""
_TRACES: Final = """
SELECT DISTINCT r.task_uid, r.tenant, r.trace_id FROM audit_rows r
WHERE r.task_uid = ANY($1::uuid[]) AND length(r.trace_id) = 16
UNION SELECT t.uid, t.tenant, t.trace_id FROM agent_tasks t WHERE t.uid = ANY($1::uuid[]) AND length(t.trace_id) = 16"""
_IN_TRACES: Final = """
SELECT DISTINCT r.task_uid, r.tenant, r.trace_id FROM unnest($1::text[], $2::bytea[]) AS g(tenant, trace_id)
JOIN audit_rows r ON r.trace_id = g.trace_id AND r.tenant = g.tenant WHERE r.task_uid IS NOT NULL
UNION SELECT t.uid, t.tenant, t.trace_id FROM unnest($1::text[], $2::bytea[]) AS g(tenant, trace_id)
JOIN agent_tasks t ON t.trace_id = g.trace_id AND t.tenant = g.tenant"""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks to erase. Several parts narrow each other."""

    task: str | None = None
    #: Ids, email addresses or names of one person.
    person: tuple[str, ...] = ()
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    #: Further texts that name the person or the matter, looked for everywhere.
    also: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """What it selects by."""
        given = {
            "task": self.task,
            "person": self.person,
            "tenant": self.tenant,
            "range": self.since or self.until,
            "also": self.also,
        }
        return [kind for kind, value in given.items() if value]

    @property
    def is_whole_tenant(self) -> bool:
        """True when everything of a tenant goes."""
        return self.kinds == ["tenant"]

    def hashed(self, salt: bytes) -> bytes:
        """Return a hash by which the same selection is recognised."""
        return hashlib.sha256(salt + msgspec.msgpack.encode(self)).digest()

    def checked(self) -> Selection:
        """Return it. Raises `ConfigError` when it selects nothing, or nonsense."""
        # An empty variable of a script must not make the selection wider.
        for option, text in (("--task", self.task), ("--tenant", self.tenant)):
            if text is not None and not text.strip():
                raise ConfigError(f"erase: {option} is empty: name one, or leave the option out")
        if not set(self.kinds) - {"also"} and not self.also:
            raise ConfigError("erase what? name it: --task, --person, --tenant, --from and --to, or --also")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigError("--from is not before --to: the range is empty")
        for one in (*self.person, *self.also):
            if len(one.strip()) < 2:
                raise ConfigError(f"{one!r} is too short to look for: it would be found in every text")
        return self


class Trees(msgspec.Struct):
    """The tasks that go whole, and their traces; in groups that belong together."""

    uids: set[UUID] = msgspec.field(default_factory=set)
    traces: set[Trace] = msgspec.field(default_factory=set)
    groups: list[tuple[set[UUID], set[Trace]]] = msgspec.field(default_factory=list)


class ArchivedPerson(NamedTuple):
    """A person as an archived act names them, and the comment of that act."""

    tenant: str
    name: str
    id: str
    email: str = ""
    comment: str = ""


async def person(connection: Any, selection: Selection, archived: Collection[ArchivedPerson] = ()) -> Found:
    """Return how rows spell the selected person; `archived`: people of archived acts.

    Raises `ConfigError` for a name that several people have: their ids tell them apart.
    """
    given = {one.strip() for one in selection.person}
    ids, names = set(given), set[str]()
    more = msgspec.json.encode([{"tenant": p.tenant, "name": p.name, "id": p.id, "email": p.email} for p in archived])

    async def same(ids: Iterable[str], names: Iterable[str]) -> list[Any]:
        found: list[Any] = await connection.fetch(_SAME, lowered(ids), selection.tenant, lowered(names), more.decode())
        return found

    rows = await same(given, given)
    people = {row["id"] or row["email"] for row in rows if _is(row["name"], given)} - {""}
    named = {row["email"] for row in rows} & given | {row["id"] for row in rows} & given
    if len(people) > 1 and not named:
        raise ConfigError(
            f"several people have that name: {', '.join(sorted(people))}. Give the ids of the one, each by --person"
        )
    for _ in range(_ROUNDS):
        before = len(ids), len(names)
        for row in await same(ids, given):
            ids |= {row["id"], row["email"]} - {""}
            names |= {row["name"]} - {""}
        if (len(ids), len(names)) == before:
            break
    ids -= names - given
    others = await same((), names)
    shared = {row["name"] for row in others if row["id"] and not _is(row["id"], ids) and not _is(row["email"], ids)}
    rows = await connection.fetch(_COMMENTS, lowered(ids), lowered(names - shared))
    comments = {row[0] for row in rows} | {
        p.comment for p in archived if _is(p.id, ids) or _is(p.email, ids) or (not p.id and _is(p.name, names - shared))
    }
    return Found(
        ids=tuple(sorted(ids)),
        names=tuple(sorted((names | given) - shared)),
        shared=tuple(sorted(shared)),
        comments=tuple(sorted(comments - {""})),
        also=selection.also,
    )


def lowered(texts: Iterable[str]) -> list[str]:
    """Return texts in lower case, as a database writes them: some databases know the case of ASCII alone."""
    return sorted({form for one in texts for form in (one.lower(), one.translate(_ASCII_LOWER))})


def _is(text: str | None, given: Iterable[str]) -> bool:
    return bool(text) and str(text).lower() in {one.lower() for one in given}


async def trees(
    connection: Any,
    selection: Selection,
    spellings: Spellings | None,
    archived: Trees | None = None,
    recorded_since: datetime | None = None,
) -> Trees:
    """Return the trees of tasks that go whole; `archived`: those that archives add.

    `recorded_since`: audit rows that were recorded before are known not to name the person.
    """
    asked = selection.tenant, selection.since, selection.until
    seeds: set[UUID] = set()
    traces: set[Trace] = set()
    if selection.task is not None:
        seeds = {row[0] for row in await connection.fetch(_BY_ID, *asked, selection.task)}
    if spellings is not None and selection.person:
        owned, unplaced = await _owned(connection, asked, spellings, selection, recorded_since)
        seeds = owned if selection.task is None else seeds & owned
        traces = unplaced if selection.task is None else set()
    elif selection.task is None and set(selection.kinds) - {"also"}:
        seeds = {row[0] for row in await connection.fetch(_TASKS, *asked)}
        traces = {(row[0], row[1]) for row in await connection.fetch(_UNPLACED, *asked)}
    if archived is not None:
        seeds, traces = seeds | archived.uids, traces | archived.traces
    return await _closed(connection, seeds, traces)


async def _owned(
    connection: Any,
    asked: tuple[Any, ...],
    spellings: Spellings,
    selection: Selection,
    recorded_since: datetime | None,
) -> tuple[set[UUID], set[Trace]]:
    """Return the tasks of the person, and the traces of their spans that belong to no task yet."""
    whole = [*spellings.found.ids, *spellings.found.names]
    uids = {row[0] for row in await connection.fetch(_OF_REQUESTER, *asked, lowered(whole))}
    quoted = [f'%"{escaped(hint)}"%' for hint in spellings.quoted]
    sets = [row[0] for row in await connection.fetch(_MAY_OWN_SETS, quoted)]
    found, traces = set[UUID](), set[Trace]()
    async with connection.transaction():
        # The time range is that of the tasks, whose spans may lie outside it.
        given = (selection.tenant, None, None, quoted, sets, recorded_since)
        async for row in connection.cursor(_MAY_OWN, *given, prefetch=CHUNK):
            if row["task_uid"] in found or (row["tenant"], row["trace_id"]) in traces:
                continue
            texts = (row["own"], row["shared"], row["resource"])
            if any(text is not None and spellings.owns(msgspec.json.decode(text)) for text in texts):
                if row["task_uid"] is not None:
                    found.add(row["task_uid"])
                elif len(row["trace_id"]) == 16:
                    traces.add((row["tenant"], row["trace_id"]))
    if selection.since is not None or selection.until is not None:
        return uids | {row[0] for row in await connection.fetch(_AMONG, *asked, list(found))}, set()
    return uids | found, traces


async def _closed(connection: Any, uids: set[UUID], traces: set[Trace]) -> Trees:
    """Return everything that belongs to the same trees."""
    groups = _Groups()
    new_uids, new_traces = set(uids), set(traces)
    for one in (*uids, *traces):
        groups.find(one)
    found = Trees(uids=set(uids), traces=set(traces))
    for _ in range(_ROUNDS):
        more: list[tuple[UUID, UUID | Trace]] = []
        for part in _parts(new_uids):
            more += [(row[0], row[1]) for row in await connection.fetch(_BESIDE, part)]
            more += [(row[0], (row[1], row[2])) for row in await connection.fetch(_TRACES, part)]
        for some in _parts(new_traces):
            rows = await connection.fetch(_IN_TRACES, [one[0] for one in some], [one[1] for one in some])
            more += [(row[0], (row[1], row[2])) for row in rows]
        for uid, other in more:
            groups.join(uid, other)
        known = {one for pair in more for one in pair}
        new_uids = {one for one in known if isinstance(one, UUID)} - found.uids
        new_traces = {one for one in known if isinstance(one, tuple)} - found.traces
        found.uids |= new_uids
        found.traces |= new_traces
        if not new_uids and not new_traces:
            break
    found.groups = groups.all()
    return found


def _parts(given: Iterable[Any]) -> Iterable[list[Any]]:
    ordered = list(given)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def escaped(text: str) -> str:
    """Return a text as a part of a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class _Groups:
    """Tasks and traces that belong together (disjoint sets)."""

    def __init__(self) -> None:
        self._above: dict[Any, Any] = {}

    def find(self, one: Any) -> Any:
        self._above.setdefault(one, one)
        while (above := self._above[one]) != one:
            self._above[one] = one = self._above[above]
        return one

    def join(self, one: Any, other: Any) -> None:
        self._above[self.find(one)] = self.find(other)

    def all(self) -> list[tuple[set[UUID], set[Trace]]]:
        found: dict[Any, tuple[set[UUID], set[Trace]]] = {}
        for one in self._above:
            uids, traces = found.setdefault(self.find(one), (set(), set()))
            if isinstance(one, UUID):
                uids.add(one)
            else:
                traces.add(one)
        return list(found.values())


def together(groups: Sequence[tuple[set[UUID], set[Trace]]], most: int) -> Iterable[tuple[set[UUID], set[Trace]]]:
    """Return groups joined to about `most` tasks and traces each: one transaction."""
    uids, traces = set[UUID](), set[Trace]()
    for more_uids, more_traces in groups:
        uids |= more_uids
        traces |= more_traces
        if len(uids) + len(traces) >= most:
            yield uids, traces
            uids, traces = set(), set()
    if uids or traces:
        yield uids, traces
