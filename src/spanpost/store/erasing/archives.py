"""Erasure in archives: files are made again without the rows of erased tasks, and without rows that name a person.

An archive's rows are not changed, only left out. Messages that archived deliveries made are deleted: those of erased
tasks, and those of tasks in which the person acted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import files, listing, parquet, running
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.recovering import recover
from spanpost.store.archiving.removing import note_in_log
from spanpost.store.archiving.rewriting import Keep, finish, rewrite
from spanpost.store.compression import decompressed
from spanpost.store.erasing import messages
from spanpost.store.erasing.author import Author
from spanpost.store.erasing.columns import TABLES, Holds
from spanpost.store.erasing.selection import ArchivedPerson, Selection, Trace, Trees
from spanpost.store.erasing.spellings import Spellings

if TYPE_CHECKING:
    import pyarrow

_AUDIT: Final = ("audit_rows", "audit_rows_rest")
_ACTS: Final = ("human_interventions", "approvals", "evaluations")
#: Rounds in which tasks lead to further tasks of the same tree, from file to file.
_ROUNDS: Final = 5
BUSY: Final = "another process is archiving this database at the moment: wait until it has finished, and erase again"


class Archives:
    """The archives that an erasure reads and makes again."""

    def __init__(self, directory: Path | None, asked: Selection, spelled: Spellings | None = None) -> None:
        self._directory = directory
        self._asked = asked
        self._spelled = spelled
        self._listed: list[Archive] = []
        #: Tasks in which the person acted.
        self.near: set[UUID] = set()

    async def open(self, connection: Any) -> bool:
        """Read the list of archives; False if there are none.

        Raises `ConfigError` where they cannot be reached: an erasure that leaves archives out is none.
        """
        self._listed = await listing.archives(connection, tenant=self._asked.tenant)
        if self._listed and self._directory is None:
            raise ConfigError(
                f"{len(self._listed)} archives are listed and retention.directory is not set: name their directory"
            )
        return bool(self._listed)

    def people(self) -> set[ArchivedPerson]:
        """Return the people whom archived acts name."""
        found = set()
        for archive in self._listed:
            for row in self._rows(archive) if archive.source in _ACTS else ():
                if archive.source == "human_interventions":
                    person = row["actor"], row["actor_id"], row["actor_email"], row["comment"]
                else:
                    person = row["by"], row["by_id"], "", row.get("comment") or row.get("explanation") or ""
                found.add(ArchivedPerson(archive.tenant, *(text or "" for text in person)))
                for vote in _json(row.get("votes")) or ():
                    found.add(ArchivedPerson(archive.tenant, vote["by"], vote["by_id"], vote.get("email", "")))
        return found

    def trees(self, known: Trees) -> Trees:
        """Return the tasks and traces in archives that the selection means, and those that belong to known ones."""
        found = Trees(uids=set(known.uids), traces=set(known.traces))
        if self._asked.is_whole_tenant:
            return found
        for archive in self._listed:
            for row in self._rows(archive):
                uid = _task_of(archive.source, row)
                if archive.source in _ACTS and uid is not None and self._is_theirs(archive.source, row):
                    self.near.add(uid)
                if self._is_asked(archive.source, row) and uid is not None:
                    found.uids.add(uid)
                    if trace := _trace_of(archive, row):
                        found.traces.add(trace)
        for _ in range(_ROUNDS):
            before = len(found.uids), len(found.traces)
            for archive in self._listed:
                if archive.source in (*_AUDIT, "agent_tasks"):
                    for row in self._rows(archive, ["uid", "task_uid", "root_uid", "trace_id"]):
                        uid, trace = _task_of(archive.source, row), _trace_of(archive, row)
                        root = UUID(row["root_uid"]) if row.get("root_uid") else None
                        if uid in self.near and root is not None:
                            self.near.add(root)
                        if uid in found.uids or trace in found.traces or root in found.uids:
                            found.uids |= {one for one in (uid, root) if one is not None}
                            found.traces |= {trace} if trace else set()
            if (len(found.uids), len(found.traces)) == before:
                break
        return found

    async def erase(
        self, connection: Any, trees: Trees, author: Author, erasure: UUID, *, is_done: bool,
        step: Callable[[str], None] = lambda place: None,
    ) -> Counter[str]:  # fmt: skip
        """Make the files again without what is erased, or only count it."""
        done: Counter[str] = Counter()
        if not self._listed or self._directory is None:
            return done
        if not is_done:
            for archive in self._listed:
                done[f"archives of {archive.source}"] += sum(
                    self._refuses(archive, row, trees) for row in self._rows(archive)
                )
            return +done
        async with connection.transaction():
            await _turn(connection)
            await recover(connection, self._directory)
        await self.open(connection)
        for archive in self._listed:
            step(archive.path)
            gone: list[dict[str, Any]] = []
            async with connection.transaction():
                await _turn(connection)
                after = await rewrite(connection, self._directory, archive, self._keep(archive, trees, gone))
                if gone:
                    await _follow(connection, archive, gone, author, erasure)
                    if after is not None and after.state != "written":
                        fresh = files.partial(self._directory / after.path)
                        await note_in_log(connection, fresh, after, actor=author.actor, act=author.act)
            finish(self._directory, archive, after)
            done[f"archives of {archive.source}"] += len(gone)
        return +done

    def _keep(self, archive: Archive, trees: Trees, gone: list[dict[str, Any]]) -> Keep:
        """Return the function that decides which rows stay; it adds the others to `gone`."""

        def keep(batch: pyarrow.RecordBatch) -> pyarrow.BooleanArray:
            stays = []
            for row in batch.to_pylist():
                stays.append(not self._refuses(archive, row, trees))
                if not stays[-1]:
                    gone.append({name: row.get(name) for name in _NAMED})
            pa = parquet.library()
            return pa.array(stays, pa.bool_())

        return keep

    # --- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, archive: Archive, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        assert self._directory is not None
        path = self._directory / archive.path
        if not path.exists():
            raise ConfigError(f"the archive {path} is missing: restore it from a backup first")
        if columns is not None:
            known = {field.name for field in parquet.fields_in(path)}
            columns = [column for column in columns if column in known]
        for batch in parquet.batches(path, columns):
            yield from batch.to_pylist()

    def _is_asked(self, source: str, row: dict[str, Any]) -> bool:
        """Tell whether a row says that its task is selected."""
        asked = self._asked
        if source == "agent_tasks":
            at = row["started_at"] or row["last_seen_at"]
            if (asked.since is not None and at < asked.since) or (asked.until is not None and at >= asked.until):
                return False
            if asked.task is not None and asked.task not in (row["task_id"], *_json(row["aliases"])):
                return False
            if asked.person:
                return self._spelled is not None and self._spelled.is_whole(row["requested_by"] or "")
            return bool(set(asked.kinds) - {"also"})
        if source not in _AUDIT or self._spelled is None or not asked.person or set(asked.kinds) & {"task", "range"}:
            return False
        return row["part"] != 5 and any(self._spelled.owns(_json(row[name])) for name in ("attributes", "resource"))

    def _refuses(self, archive: Archive, row: dict[str, Any], trees: Trees) -> bool:
        if self._asked.is_whole_tenant:
            return True
        if _task_of(archive.source, row) in trees.uids or _trace_of(archive, row) in trees.traces:
            return True
        if archive.source == "deliveries":
            # Its message may show what the person did, and nothing is left to draw it anew: it is deleted.
            return _task_of(archive.source, row) in self.near
        return self._names(archive.source, row)

    def _is_theirs(self, source: str, row: dict[str, Any]) -> bool:
        if self._spelled is None:
            return False
        held = TABLES[source].columns
        return any(
            self._spelled.is_whole(row[name] or "") for name in row if held.get(name) is Holds.PERSON
        ) or self._spelled.is_strong(row.get("votes") or "")

    def _names(self, source: str, row: dict[str, Any]) -> bool:
        """Tell whether a row names the person."""
        spelled = self._spelled
        if spelled is None:
            return False
        source = "audit_rows" if source in _AUDIT else source
        texts = {name: row[name] for name, holds in TABLES[source].columns.items() if holds is not Holds.NOTHING}
        is_near = _task_of(source, row) in self.near or self._is_theirs(source, row)
        for name, text in texts.items():
            if not isinstance(text, str) or not text:
                continue
            holds = TABLES[source].columns[name]
            if holds in (Holds.PACKED, Holds.RAW):
                document = bytes.fromhex(text)
                if spelled.may_hold(decompressed(document) if holds is Holds.PACKED else document, is_near=is_near):
                    return True
                continue
            value = _json(text) if text[:1] in '{["' else text
            if spelled.value(value, is_near=is_near, is_person=holds is Holds.PERSON) is not value:
                return True
        return False


#: Columns of rows that are left out which the log of rows and the outbox need.
_NAMED: Final = (
    "id", "occurred_at", "event_id", "content_hash", "sink", "ordering_key", "address", "tenant", "mode", "receipt",
)  # fmt: skip


async def _turn(connection: Any) -> None:
    """Keep other processes from changing archives until the transaction ends."""
    if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({running.LOCK})"):
        raise ConfigError(BUSY)


async def _follow(connection: Any, archive: Archive, rows: list[dict[str, Any]], author: Author, erasure: UUID) -> None:
    """Report rows that are left out (`Author`), and have messages deleted that archived deliveries made."""
    if archive.source in _AUDIT:
        keys = [(row["occurred_at"], UUID(row["event_id"]), row["content_hash"]) for row in rows]
        await author.erased_rows(connection, archive.tenant, keys)
    elif archive.source == "human_interventions":
        await author.erased_acts(connection, archive.tenant, [UUID(row["id"]) for row in rows])
    elif archive.source == "deliveries":
        posted = [(row, archive.tenant, row["mode"] == "state") for row in rows if row["receipt"]]
        await messages.put(connection, posted, erasure)


def _task_of(source: str, row: dict[str, Any]) -> UUID | None:
    found = row.get("uid" if source == "agent_tasks" else "task_uid")
    return UUID(found) if found else None


def _trace_of(archive: Archive, row: dict[str, Any]) -> Trace | None:
    if archive.source == "quarantine" and row.get("bytes"):
        with suppress(msgspec.DecodeError):
            held = msgspec.msgpack.decode(bytes.fromhex(row["bytes"]))
            trace = held.get("trace_id") if isinstance(held, dict) else None
            return (archive.tenant, trace) if isinstance(trace, bytes) else None
    if archive.source not in (*_AUDIT, "agent_tasks") or len(row.get("trace_id") or "") != 32:
        return None
    return archive.tenant, bytes.fromhex(row["trace_id"])


def _json(text: str | None) -> Any:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(text or "null") or ()
    return text
