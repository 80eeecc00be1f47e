"""Retention of seconds (`--retention 60`): rows leave for archives during the run, and come back before the check.

A month of the archives is then as long as the retention; all else is the run of a gateway: files, hashes, removals. The
sizes are sampled: memory and tables must stand still once the first rows have left, as far as deliveries are not late
(their tasks stay, by rule). When everything is delivered, retention goes on until nothing is left that could leave.
Then all archives are restored, so that the checker finds each acknowledged row in the database or in a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from spanpost.model.interventions import Actor as Author
from spanpost.model.retention import RetentionRules
from spanpost.store.archiving import leaving, listing, restoring, running
from spanpost.store.archiving.writing import Month
from spanpost.store.connections import DRIVER_ERRORS
from tests.eventually import eventually
from tests.faults.soak.actors import Threads
from tests.faults.soak.checker import worked_off
from tests.faults.soak.tenants import ATTACKER
from tests.faults.soak.world import now

#: Seconds between two runs of retention, and between two samples.
EVERY, SAMPLED = 10.0, 5.0
#: Share by which the last third may exceed the second. Ends of retention runs and of vacuums lie anywhere in a third.
MEMORY_GROWS, TABLES_GROW = 0.10, 0.25
#: Share of a table's rows that may be left when all is over: of tasks that nobody ended.
LEFT = 0.02
_ARCHIVED = {source.target: source.kind for source in running.SOURCES.values()}
#: Tables whose rows stay for ever, and those whose rows this run keeps for long: operations.
_STAY = {*leaving.FOR_EVER} | {name for name, kind in {**leaving.PRUNED, **_ARCHIVED}.items() if kind == "operations"}
_LEAVE = sorted({*_ARCHIVED} - _STAY)
_SIZES = """
SELECT relname, pg_total_relation_size(oid) >> 10 FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""
_WAITING = "SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'sending')"
_ROWS = "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'public'"


class Sample(NamedTuple):
    """Sizes at one moment of the run."""

    #: Seconds since the start.
    at: int
    #: MiB of the gateways together.
    memory: int
    #: Deliveries that wait.
    waiting: int
    #: Rows in archived tables of all tenants but the attacker, whose tasks join one another and never end.
    rows: int
    #: KiB by table.
    tables: dict[str, int]

    def mib(self, *, stay: bool) -> int:
        """Return the size of the tables whose rows leave, or of those whose rows stay."""
        return sum(size for name, size in self.tables.items() if (name in _STAY) is stay) >> 10


class Retention(Threads):
    """The run of retention, again and again, and the samples. Without `--retention` it does nothing."""

    name, is_last = "retention", True

    def start(self) -> None:
        self.samples: list[Sample] = []
        #: Rows that left for archives, by table.
        self.removed: Counter[str] = Counter()
        #: Rows that are left when all was over, by table.
        self.left: dict[str, int] = {}
        if self.world.retention:
            self._began = now()
            self._home = self.world.directory / "archives"
            self._home.mkdir(mode=0o700)
            self.world.database.execute(
                "UPDATE retention_floors SET shortest = '0 s'",
                "ALTER SYSTEM SET autovacuum_naptime = '5s'",
                "SELECT pg_reload_conf()",
            )
            self.begin(self._retain)
            self.begin(self._sample)

    def _rules(self) -> RetentionRules:
        kept = timedelta(seconds=self.world.retention)
        long = timedelta(days=400)
        return RetentionRules(
            audit_rows=kept, tasks=kept, deliveries=kept, artifacts=kept, evaluations=kept,
            interventions=kept, operations=long, placement=kept, directory=self._home, share=1.0,
        )  # fmt: skip

    def _retain(self) -> None:
        running.due_months = _due  # type: ignore[assignment]
        while not self.world.closing.is_set():
            with suppress(OSError, *DRIVER_ERRORS):
                self.world.database.ask(self._run)
            self.world.closing.wait(EVERY)

    async def _run(self, connection: Any) -> None:
        author = Author(provider="cli", id="soak")
        done = await running.run(connection, self._rules(), is_done=True, actor=author)
        for month in done.months:
            self.removed[running.SOURCES[month.source].target] += month.rows

    def _sample(self) -> None:
        while not self.world.closing.is_set():
            with suppress(OSError, *DRIVER_ERRORS):
                tables = dict(self.world.database.rows(_SIZES))
                [(waiting,)] = self.world.database.rows(_WAITING)
                rows = sum(self._counts().values())
                memory = sum(gateway.resident() for gateway in self.world.gateways)
                self.samples.append(Sample(round(now() - self._began), memory, waiting, rows, tables))
            self.world.closing.wait(SAMPLED)

    def close(self) -> None:
        """Let everything leave; then restore it, so that the checker compares all that was ever acknowledged."""
        super().close()
        if self.world.retention:
            worked_off(self.world.database)  # what stands still is found by the checker
            deadline = now() + 4 * self.world.retention
            self.left = eventually(self._leave, lambda left: not left or now() > deadline, inf, EVERY)
            self._rows = {name: counts for name, *counts in self.world.database.rows(_ROWS)}
            self.world.database.ask(lambda connection: _restore_all(connection, self._home))

    def _leave(self) -> dict[str, int]:
        """Archive what is due; return the rows that are left, by table."""
        self.world.database.ask(self._run)
        return {name: count for name, count in self._counts().items() if count}

    def _counts(self) -> dict[str, int]:
        counts = [f"SELECT '{name}', count(*) FROM {name} WHERE tenant <> '{ATTACKER}'" for name in _LEAVE]
        return dict(self.world.database.rows(" UNION ALL ".join(counts)))  # type: ignore[arg-type]

    def findings(self) -> Sequence[str]:
        """The last third of the samples is no larger than the one before."""
        if not self.world.retention:
            return ()
        found = [] if self.removed else ["no row left for an archive"]
        found += [
            f"{count} rows of {name} did not leave, {self.removed[name]} left"
            for name, count in self.left.items()
            if count > self.removed[name] * LEFT + 60
        ]
        middle, last = self._thirds()
        # The first rows leave after the retention, and a task's last after twice of it.
        if len(last) < 4 or middle[0].at < 2 * self.world.retention:
            return found
        for what, size, share in (
            ("memory of the gateways, in MiB", lambda sample: sample.memory, MEMORY_GROWS),
            ("tables, in MiB", lambda sample: sample.mib(stay=False), TABLES_GROW),
            ("rows, in thousands", lambda sample: sample.rows // 1000, TABLES_GROW),
        ):
            before, after = (max(map(size, part)) for part in (middle, last))
            if after > before * (1 + share) + 4:
                found.append(f"{what}: from {before} to {after} in the last third")
        return found

    def _thirds(self) -> tuple[list[Sample], list[Sample]]:
        third = len(self.samples) // 3
        return self.samples[third : 2 * third], self.samples[2 * third :]

    def notes(self) -> Sequence[str]:
        """Return the series, in at most some forty points, and the largest tables."""
        if not self.world.retention or not self.samples:
            return ()
        points = self.samples[:: len(self.samples) // 40 + 1]
        series = " ".join(
            f"{point.at}/{point.memory}/{point.mib(stay=False)}/{point.mib(stay=True)}/{point.rows}/{point.waiting}"
            for point in points
        )
        middle, last = self._thirds()
        end = self.samples[-1].tables
        tables = []
        for name in sorted({*end} - _STAY, key=lambda name: -end[name])[:10]:
            largest = [max((sample.tables.get(name, 0) for sample in part), default=0) for part in (middle, last)]
            tables.append(f"{name} {'/'.join(map(str, [*largest, *self._rows.get(name, ())]))}")
        return (
            f"{self.removed.total()} rows left for archives after {self.world.retention:g} s",
            "seconds/MiB of gateways/of tables whose rows leave/of tables that stay/rows that leave but the attacker's/"
            f"deliveries that wait: {series}",
            f"rows left when all was over: {self.left}",
            f"largest of those whose rows leave, KiB in the second third/in the last/rows/dead: {', '.join(tables)}",
        )


async def _due(connection: Any, rules: RetentionRules, at: datetime) -> list[Month]:
    """Return each source of each tenant as one month that ends with the retention."""
    opens = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = []
    for name, source in running.SOURCES.items():
        cut = at - rules.kept_for(source.kind, "")
        if name != "audit_rows_rest" and cut > opens:
            within = running._WITHIN.get(name, "true")
            tenants = await connection.fetch(f"SELECT DISTINCT r.tenant FROM {source.relation} r WHERE {within}")
            found += [Month(tenant, name, opens, cut, cut, within) for (tenant,) in tenants]
    return found


async def _restore_all(connection: Any, home: Path) -> None:
    for archive in await listing.archives(connection):
        await restoring.restore(connection, home, archive, keep=timedelta(days=30))
