"""One run of retention: find the months that are due, write their archives, remove their rows.

One process at a time: a run holds an advisory lock of the database, in a transaction that does nothing else. Its work
is bounded (`files_per_run`), and the next run goes on where it ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor
from spanpost.model.retention import RetentionRules
from spanpost.store.archiving import files, leaving, listing, parquet, placement, recovering
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.pacing import DutyCycle
from spanpost.store.archiving.removing import RowsChanged, remove
from spanpost.store.archiving.sources import SOURCES, Source, old, outside_months
from spanpost.store.archiving.writing import Month, Watch, write
from spanpost.store.connections import DRIVER_ERRORS

#: Called before each month: number of months done and in all, and which one begins.
Show = Callable[[int, int, str], None]
#: Key of the advisory lock of a run. Arbitrary and fixed.
LOCK: Final = 5_791_443_903
#: A month that was archived is looked at again after this time: tasks that were kept then may be over.
_AGAIN: Final = timedelta(days=7)
_MONTHS: Final = """
SELECT DISTINCT r.tenant, date_trunc('month', {at} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS opens
FROM {relation} r WHERE {at} < $1 AND {within} ORDER BY 2, 1"""
_WITHIN: Final = {
    "audit_rows": "r.tableoid <> 'audit_rows_rest'::regclass",
    "audit_rows_rest": "r.tableoid = 'audit_rows_rest'::regclass",
}
#: Archives that are less than a week old, and restored ones, are left alone.
_RECENT: Final = """
SELECT tenant, source, month FROM archives
WHERE (is_last AND written_at > clock_timestamp() - $1::interval) OR restored_until > clock_timestamp()"""
_COMPLETED: Final = """
UPDATE retention_progress SET completed_at = clock_timestamp(), due_since = $1, failed_at = NULL, error = ''"""
_FAILED: Final = """
UPDATE retention_progress
SET failed_at = coalesce(failed_at, clock_timestamp()), error = $1, due_since = coalesce(due_since, $2)"""


class MonthDone(msgspec.Struct, kw_only=True):
    """A month of a run: rows that were archived, or would be."""

    tenant: str
    source: str
    month: str
    rows: int
    size: int = 0


class RetentionRun(msgspec.Struct, kw_only=True):
    """The result of a run."""

    is_done: bool
    months: list[MonthDone] = []
    #: Records of traces that are over.
    placement: int = 0
    #: Old rows of tables without archives.
    pruned: int = 0
    #: Partitions of audit_rows that were dropped, as they were empty.
    dropped: list[str] = []
    #: Months that are due and left for the next run.
    left: int = 0
    #: Months whose rows changed meanwhile: the next run archives them.
    changed: int = 0

    @property
    def rows(self) -> int:
        return sum(month.rows for month in self.months)


@asynccontextmanager
async def turn(connection: Any) -> AsyncIterator[bool]:
    """Hold the lock of archives; yield False if another process has it. `connection` does nothing else meanwhile."""
    async with connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({LOCK})")


async def run(
    connection: Any,
    rules: RetentionRules,
    *,
    is_done: bool,
    actor: Actor,
    watch: Watch = lambda step: None,
    show: Show = lambda done, total, what: None,
) -> RetentionRun:
    """Archive what is due; `is_done` False: only count it. Call it in one's turn (`turn`).

    Raises `ConfigError` when the file system refuses; then nothing was deleted that is not in a verified file.
    """
    done = RetentionRun(is_done=is_done)
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    due: list[Month] = []
    try:
        if rules.directory is not None:
            if is_done:
                parquet.library()
                await recovering.open_directory(connection, rules.directory)
                await recovering.recover(connection, rules.directory)
                await _remove_written(connection, rules, done, actor, watch)
            due = await due_months(connection, rules, now)
            for number, month in enumerate(due[: rules.files_per_run]):
                show(number, min(len(due), rules.files_per_run), f"{month.source} {month.opens:%Y-%m}")
                await _archive(connection, rules, month, done, actor, watch)
            done.left = len(due[rules.files_per_run :])
        if rules.directory is not None:
            watch("pruning")
            done.pruned = await leaving.prune(connection, rules, now, is_done=is_done)
        if is_done and done.months:
            await _tidy(connection, done)
        watch("placement")
        done.placement = await placement.forget_placement(connection, now - rules.placement, is_done=is_done)
    except (ConfigError, OSError, *DRIVER_ERRORS) as error:
        if is_done and rules.directory is not None:
            with contextlib.suppress(OSError, *DRIVER_ERRORS):
                await connection.execute(_FAILED, str(error)[:500], _since(due, rules))
        raise
    if is_done and rules.directory is not None:
        left = due[rules.files_per_run :]
        await connection.execute(_COMPLETED, _since(left, rules))
    watch("finished")
    return done


async def due_months(connection: Any, rules: RetentionRules, now: datetime) -> list[Month]:
    """Return the months that are older than their retention and hold rows, the oldest first."""
    recent = {(row["tenant"], row["source"], row["month"]) for row in await connection.fetch(_RECENT, _AGAIN)}
    found = []
    for source in SOURCES.values():
        shortest = min(rules.kept_for(source.kind, tenant) for tenant in ("", *rules.tenants))
        within = _WITHIN.get(source.name, "true")
        if source.name == "audit_rows_rest":
            within = f"{within} AND {await outside_months(connection)}"
        months = _MONTHS.format(at=source.at, relation=source.relation, within=within)
        for tenant, opens in await connection.fetch(months, now - shortest):
            opens = opens.astimezone(UTC)
            ends = (opens + timedelta(days=32)).replace(day=1)
            cut = now - rules.kept_for(source.kind, tenant)
            if ends <= cut and (tenant, source.name, opens.date()) not in recent:
                found.append(Month(tenant, source.name, opens, ends, cut, within))
    order = list(SOURCES)
    return sorted(found, key=lambda month: (month.opens, order.index(month.source), month.tenant))


def _since(months: list[Month], rules: RetentionRules) -> datetime | None:
    """Return since when the oldest of these months should be gone."""
    return min((m.ends + rules.kept_for(SOURCES[m.source].kind, m.tenant) for m in months), default=None)


async def _archive(
    connection: Any, rules: RetentionRules, month: Month, done: RetentionRun, actor: Actor, watch: Watch
) -> None:
    """Archive all old rows of a month, file by file; without `is_done` count them."""
    source = SOURCES[month.source]
    if not done.is_done:
        rows = await connection.fetchval(
            old(source, "count(*)", month.within), month.tenant, month.opens, month.ends, month.cut
        )
        if rows:
            done.months.append(_described(month, rows))
        return
    assert rules.directory is not None
    while (
        archive := await write(connection, rules.directory, month, rules.rows_per_file, watch, DutyCycle(rules.share))
    ) is not None:
        if not await _remove(connection, rules, archive, actor, watch):
            done.changed += 1
            return
        done.months.append(_described(month, archive.rows, archive.size))
        if archive.is_last:
            return


def _described(month: Month, rows: int, size: int = 0) -> MonthDone:
    return MonthDone(tenant=month.tenant, source=month.source, month=f"{month.opens:%Y-%m}", rows=rows, size=size)


async def _remove_written(
    connection: Any, rules: RetentionRules, done: RetentionRun, actor: Actor, watch: Watch
) -> None:
    """Remove the rows of archives whose removal was interrupted, and of those that were restored for a time."""
    await connection.execute(
        "UPDATE archives SET state = 'written' WHERE state = 'restored' AND restored_until < clock_timestamp()"
    )
    for archive in await listing.archives(connection, states=["written"]):
        if not await _remove(connection, rules, archive, actor, watch):
            done.changed += 1


async def _remove(connection: Any, rules: RetentionRules, archive: Archive, actor: Actor, watch: Watch) -> bool:
    """Remove the rows of an archive. False: they have changed, and the archive is discarded."""
    assert rules.directory is not None
    try:
        await remove(connection, rules.directory, archive, actor=actor, watch=watch, pace=DutyCycle(rules.share))
    except RowsChanged:
        if archive.removed_at is not None:
            # It was restored, and some of its rows have changed: these are archived anew, and the file stays.
            await connection.execute("UPDATE archives SET state = 'removed' WHERE id = $1", archive.id)
            return False
        await listing.forget(connection, archive)
        with files.explained(rules.directory):
            files.discard(rules.directory / archive.path)
        return False
    return True


async def _tidy(connection: Any, done: RetentionRun) -> None:
    """Drop empty partitions, and delete attribute sets and ordering keys that no row needs any more."""
    months = {m.month for m in done.months if m.source == "audit_rows"}
    for month in sorted(months):
        opens = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        # Recording goes first: a lock that is not free at once is taken by the next run.
        with contextlib.suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if await connection.fetchval("SELECT spanpost_drop_month($1)", opens):
                done.dropped.append(f"audit_rows_{opens:%Y_%m}")
    await connection.execute("SELECT spanpost_tidy()")


def source_of(name: str) -> Source:
    """Return a table that is archived. Raises `ConfigError` for any other."""
    if name not in SOURCES:
        raise ConfigError(f"{name!r} is not archived; tables are: {', '.join(SOURCES)}")
    return SOURCES[name]
