"""Lead an erasure: find, delete and replace, delete messages; or only count.

Each step is safe to repeat and to interrupt: a row in `erasures` says how far it is. Until the rows are clean it
keeps the spellings that are looked for, since the rows by which they were found go first.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from spanpost.model.acts import Operation
from spanpost.model.errors import ConfigError
from spanpost.store.erasing import messages, rest, selection, sets, tombstones, trees
from spanpost.store.erasing.archives import Archives
from spanpost.store.erasing.author import Author
from spanpost.store.erasing.mentions import Mentions, find_near
from spanpost.store.erasing.selection import Selection, Trees
from spanpost.store.erasing.spellings import Found, Spellings
from spanpost.store.intervention_rows import note_operation

#: Rounds: what was recorded while an erasure ran is found by the next.
ROUNDS: Final = 5
#: Seconds between two looks at a delivery that is being sent, and at messages that are being deleted.
_PAUSE: Final = 0.25
#: A row may be committed this much later than its time says.
_OVERLAP: Final = timedelta(minutes=5)
#: Seconds that a delivery under way, or the journal, may take: longer than the outbox's lease.
LONGEST: Final = 90.0

_OPEN: Final = "SELECT id, act, salt, selected, working::text AS working FROM erasures WHERE state <> 'done'"
_BEGIN: Final = """
INSERT INTO erasures (id, act, tenant, actor, reason, salt, selected, kinds, since, until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10)"""
_KEEP: Final = "UPDATE erasures SET working = $2::text::jsonb WHERE id = $1"
_PROGRESS: Final = "SELECT progress::text FROM erasures WHERE id = $1"
_COUNT: Final = "UPDATE erasures SET progress = $2::text::jsonb WHERE id = $1"
_STATE: Final = """
UPDATE erasures SET state = $2, working = NULL, finished_at = CASE WHEN $2 = 'done' THEN clock_timestamp() END
WHERE id = $1"""
_LIST: Final = """
SELECT id, tenant, started_at, actor, reason, kinds::text AS kinds, since, until, state, progress::text AS progress,
  finished_at
FROM erasures ORDER BY started_at DESC LIMIT $1"""
_WAITING: Final = "SELECT id FROM erasures WHERE state = 'waiting' ORDER BY started_at"

#: Reports a step: the place, how many parts of it are done, and of how many.
Progress = Callable[[str, int, int], None]


class Report(msgspec.Struct, kw_only=True):
    """What an erasure found, or did."""

    is_done: bool
    id: UUID | None = None
    #: running, waiting or done; empty for a dry run.
    state: str = ""
    #: Rows and messages by place.
    places: dict[str, int] = {}
    #: The spellings of a person that a dry run found.
    found: Found | None = None
    #: Messages by the state of their deletion, and the sinks' reasons for refusals.
    deletions: dict[str, int] = {}
    refusals: list[str] = []


class Erasure(msgspec.Struct, kw_only=True):
    """An erasure as an operator lists it."""

    id: UUID
    tenant: str
    started_at: datetime
    actor: str
    reason: str
    kinds: list[str]
    state: str
    places: dict[str, int]
    since: datetime | None = None
    until: datetime | None = None
    finished_at: datetime | None = None


def _ignore(place: str, done: int, total: int) -> None:
    pass


async def survey(connection: Any, asked: Selection, *, directory: Path | None = None) -> Report:
    """Count what an erasure would erase. Changes nothing. `directory`: that of the archives."""
    asked.checked()
    id = uuid4()
    found, spelled = await _spelled(connection, asked, "erased", directory)
    archives = Archives(directory, asked, spelled)
    chosen = await _chosen(connection, asked, spelled, archives)
    places = await trees.counted(connection, chosen.uids, chosen.traces)
    places += await messages.counted(connection, chosen.uids)
    if spelled is not None:
        author = Author("", "", id)
        places += await Mentions(connection, spelled, asked.tenant, chosen, author, id, archives.near).run(
            is_done=False
        )
    places += await rest.counted(connection, asked, chosen)
    places += await archives.erase(connection, chosen, Author("", "", id), id, is_done=False)
    return Report(is_done=False, places=dict(+places), found=found)


async def _chosen(
    connection: Any, asked: Selection, spelled: Spellings | None, archives: Archives, since: datetime | None = None
) -> Trees:
    """Return the trees of tables and archives: each may lead to more in the other."""
    chosen = await selection.trees(connection, asked, spelled, recorded_since=since)
    if spelled is not None:
        archives.near |= await find_near(connection, spelled)
    if await archives.open(connection):
        chosen = await selection.trees(connection, asked, spelled, archives.trees(chosen), since)
        beside = archives.trees(chosen)
        if not (beside.uids <= chosen.uids and beside.traces <= chosen.traces):
            chosen = await selection.trees(connection, asked, spelled, beside, since)
    return chosen


async def erase(
    connection: Any, asked: Selection, *, actor: str, reason: str, key: bytes, directory: Path | None = None,
    progress: Progress = _ignore,
) -> Report:  # fmt: skip
    """Erase, or go on where the same erasure was interrupted.

    `key` is the database's key of hashes, `directory` that of the archives. Raises `ConfigError` where the reason
    names what is erased: it stays.
    """
    asked.checked()
    resumed = await _resumed(connection, asked)
    if resumed is None:
        id = uuid4()
        found, spelled = await _spelled(connection, asked, _marker(id), directory)
        _refuse(asked, spelled, reason)
        salt = secrets.token_bytes(16)
        async with connection.transaction():
            act = await note_operation(connection, Operation("erase", actor, f"{', '.join(asked.kinds)}: {reason}"))
            await connection.execute(
                _BEGIN, id, act, asked.tenant or "", actor, reason, salt, asked.hashed(salt), _json(asked.kinds),
                asked.since, asked.until,
            )  # fmt: skip
            await connection.execute(_KEEP, id, _json(found))
    else:
        id, act, working = resumed
        found = msgspec.json.decode(working, type=Found | None)
        spelled = Spellings(found, _marker(id)) if found is not None else None
        _refuse(asked, spelled, reason)
    author = Author(actor, reason, act)
    newest = await rest.newest_in_journal(connection)
    named: set[int] = set()
    since: datetime | None = None
    for _ in range(ROUNDS):
        began = await connection.fetchval("SELECT clock_timestamp() - $1::interval", _OVERLAP)
        archives = Archives(directory, asked, spelled)
        done = await _round(connection, asked, spelled, id, key, author, named, archives, progress, since)
        since = began
        await _count(connection, id, done)
        if not done and not await rest.waits_in_journal(connection, newest, LONGEST):
            break
    dropped = await sets.drop(connection, named)
    await _count(connection, id, Counter({"attribute_sets": dropped}))
    await tombstones.forget_sets(connection)  # processes forget what they have read
    await tombstones.bound(connection)
    await connection.execute(_STATE, id, "waiting")
    return await advance(connection, id)


async def _round(
    connection: Any, asked: Selection, spelled: Spellings | None, id: UUID, key: bytes, author: Author,
    named: set[int], archives: Archives, progress: Progress, since: datetime | None,
) -> Counter[str]:  # fmt: skip
    """Erase what is there now; return what was found."""
    done: Counter[str] = Counter()
    chosen = await _chosen(connection, asked, spelled, archives, since)
    total = len(chosen.uids) + len(chosen.traces)
    count = 0
    # Archives go first: the rows in the tables still say what belongs together.
    done += await archives.erase(
        connection, chosen, author, id, is_done=True, step=lambda _: progress("archives", 0, 0)
    )
    for uids, traces in selection.together(chosen.groups, trees.AT_ONCE):
        for _ in range(int(LONGEST / _PAUSE)):
            found, of_rows, is_whole = await trees.erase(connection, uids, traces, key, author, id)
            done += found
            named |= of_rows
            if is_whole:
                break
            await asyncio.sleep(_PAUSE)  # a delivery is being sent: its receipt names the message to delete
        count += len(uids) + len(traces)
        progress("tasks", count, total)
    if spelled is not None:
        steps = iter(range(1, 100))
        mentions = Mentions(connection, spelled, asked.tenant, Trees(), author, id, archives.near, since)
        done += await mentions.run(is_done=True, step=lambda place: progress(place, next(steps), 0))
    done += await rest.erase(connection, asked, chosen, author)
    return +done


async def advance(connection: Any, id: UUID) -> Report:
    """Finish an erasure whose messages are deleted; return how far it is."""
    found = await messages.progress(connection, id)
    waiting = sum(count for state, (count, _) in found.items() if state in ("waiting", "sending"))
    state = "waiting" if waiting else "done"
    async with connection.transaction():
        deleted = await messages.finish(connection, id)
        await _count(connection, id, Counter({"messages deleted": deleted}))
        await connection.execute(_STATE, id, state)
    places = msgspec.json.decode(await connection.fetchval(_PROGRESS, id), type=dict[str, int])
    refused, reasons = found.get("dead", (0, []))
    deletions = {"deleted": places.get("messages deleted", 0), "waiting": waiting, "refused": refused}
    return Report(is_done=True, id=id, state=state, places=places, deletions=deletions, refusals=reasons)


async def listed(connection: Any, limit: int) -> list[Erasure]:
    """List erasures, the newest first; finish those whose messages are deleted."""
    for row in await connection.fetch(_WAITING):
        await advance(connection, row[0])
    found = []
    for row in await connection.fetch(_LIST, limit):
        values = dict(row)
        values["kinds"] = msgspec.json.decode(values["kinds"])
        values["places"] = msgspec.json.decode(values.pop("progress"))
        found.append(Erasure(**values))
    return found


async def _spelled(
    connection: Any, asked: Selection, marker: str, directory: Path | None
) -> tuple[Found | None, Spellings | None]:
    if not asked.person and not asked.also:
        return None, None
    archives = Archives(directory, asked)
    archived = archives.people() if await archives.open(connection) else ()
    found = await selection.person(connection, asked, archived)
    return found, Spellings(found, marker)


async def _resumed(connection: Any, asked: Selection) -> tuple[UUID, UUID, str] | None:
    """Return an interrupted erasure of the same, the id of its act, and the spellings that it keeps."""
    for row in await connection.fetch(_OPEN):
        if asked.hashed(row["salt"]) == row["selected"] and row["working"] is not None:
            return row["id"], row["act"], row["working"]
    return None


def _refuse(asked: Selection, spelled: Spellings | None, reason: str) -> None:
    """Refuse a reason that names what is erased."""
    named = spelled is not None and (spelled.text(reason, is_near=True) != reason or spelled.is_strong(reason))
    if named or (asked.task is not None and asked.task in reason):
        raise ConfigError(
            "--reason names what is erased, and the reason is kept: give a reference, such as a ticket's number"
        )


def _marker(id: UUID) -> str:
    return f"erased-{id.hex[:8]}"


async def _count(connection: Any, id: UUID, done: Counter[str]) -> None:
    if not +done:
        return
    async with connection.transaction():
        known = msgspec.json.decode(await connection.fetchval(f"{_PROGRESS} FOR UPDATE", id), type=dict[str, int])
        await connection.execute(_COUNT, id, _json(dict(Counter(known) + done)))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
