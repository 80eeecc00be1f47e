"""Cells up to 100,000 spans a second: the arithmetic, and a discrete simulation with measured service times.

    python bench/cells_simulation.py [--system]       measure one cell here, compare, then simulate many
    python bench/cells_simulation.py --no-measure     the tables of docs/explanation/scaling.md, the same each time

A cell is some gateways (one core each) and one PostgreSQL. Requests arrive at random (Poisson), each of one tenant;
the sizes of tenants follow Zipf's law. A request is served by the router (its cores share one queue), then waits at
the gateway of its cell with the fewest waiting spans. A gateway takes up to 2,048 waiting spans as one group: its
core works for them, then PostgreSQL does, then the commit is flushed; at most two groups of a gateway are under way.
So bodies wait as in `receivers/recording_groups.py`; there is no journal, so that the answer says when rows are there.

A cell that fails answers 503, and its senders come back after 1 to 3 seconds. The comparison runs `gateway.py`'s load
on one real cell, gives the measured processor times to the model, and prints both rates.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import asyncpg
from options import parse, postgres

DAY = 86_400
#: Spans of one transaction, and transactions of one gateway under way (`receivers/limits.py`).
GROUP, WRITERS = 2048, 2
#: Part of a core that may be busy on average: beyond it the answer's time grows quickly.
PLANNED = 0.7


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Service times and bytes. Microseconds; the defaults are of bench/README.md."""

    #: Of a gateway's core for a span: 141 (first) to 181 (last tenth of a million spans).
    gateway: float = 160.0
    #: Of PostgreSQL's cores for a span.
    server: float = 40.0
    #: Until a commit is flushed.
    commit: float = 2_000.0
    #: Of the router's core for a request, and for each of its spans (`cells.py`).
    router: float = 1_700.0
    router_span: float = 0.7
    #: Of the router's core for a request that it refuses, as its cell is down.
    refusal: float = 700.0
    #: Part of a gateway's time that is not lost to other gateways' locks: 1.8 of 2 cores were busy with two.
    efficiency: float = 0.9
    row_bytes: int = 1_166
    wal_bytes: int = 1_733
    wire_bytes: int = 433
    #: Gateways and PostgreSQL cores of a cell; spans of a request.
    gateways: int = 4
    servers: int = 4
    body: int = 512

    @property
    def gateway_rate(self) -> float:
        """Spans a second of one gateway that is always busy."""
        return 1e6 / self.gateway * self.efficiency

    @property
    def cell_rate(self) -> float:
        """Spans a second of a cell that is always busy."""
        return min(self.gateways * self.gateway_rate, self.servers * 1e6 / self.server)


class Clock:
    """Events in order of time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def run(self, until: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Cores:
    """Servers with one queue, first come, first served."""

    def __init__(self, clock: Clock, count: int) -> None:
        self._clock = clock
        self._free = count
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self.busy = 0.0

    def serve(self, seconds: float, then: Callable[[], None]) -> None:
        self._queue.append((seconds, then))
        self._begin()

    def _begin(self) -> None:
        while self._free and self._queue:
            seconds, then = self._queue.popleft()
            self._free -= 1
            self.busy += seconds
            self._clock.after(seconds, lambda then=then: self._end(then))

    def _end(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        self._begin()


@dataclass
class Request:
    """A body of one tenant; `done` is called when its rows are there."""

    spans: int
    done: Callable[[], None]


class GatewayModel:
    """One gateway: groups of waiting requests, folded by one core, written by PostgreSQL."""

    def __init__(self, clock: Clock, server: Cores, costs: Costs) -> None:
        self._clock, self._server, self._costs = clock, server, costs
        self._waiting: deque[Request] = deque()
        self._under_way = 0
        self.core = Cores(clock, 1)
        self.spans = 0

    def take(self, request: Request) -> None:
        self._waiting.append(request)
        self.spans += request.spans
        self._begin()

    def _begin(self) -> None:
        if not self._waiting or self._under_way == WRITERS:
            return
        # A second group starts with at least half of its size.
        if self._under_way and sum(one.spans for one in self._waiting) < GROUP // 2:
            return
        group, count = [self._waiting.popleft()], 0
        count = group[0].spans
        while self._waiting and count + self._waiting[0].spans <= GROUP:
            group.append(self._waiting.popleft())
            count += group[-1].spans
        self._under_way += 1
        costs = self._costs
        flush = costs.commit / 1e6

        def written() -> None:
            self._clock.after(flush, lambda: self._committed(group, count))

        self.core.serve(
            count * costs.gateway / costs.efficiency / 1e6,
            lambda: self._server.serve(count * costs.server / 1e6, written),
        )

    def _committed(self, group: Sequence[Request], count: int) -> None:
        self._under_way -= 1
        self.spans -= count
        for request in group:
            request.done()
        self._begin()


class CellModel:
    """A cell: its gateways share PostgreSQL's cores."""

    def __init__(self, clock: Clock, costs: Costs) -> None:
        self.server = Cores(clock, costs.servers)
        self.gateways = [GatewayModel(clock, self.server, costs) for _ in range(costs.gateways)]
        self.is_down = False
        self.answers: list[float] = []

    def take(self, request: Request) -> None:
        min(self.gateways, key=lambda one: one.spans).take(request)

    def used(self, seconds: float) -> float:
        """Part of its gateways' time that was busy."""
        return sum(one.core.busy for one in self.gateways) / seconds / len(self.gateways)


@dataclass
class Run:
    """What a simulated time brought."""

    cells: Sequence[CellModel]
    seconds: float
    router: float
    offered: int = 0
    refused: int = 0
    late: int = 0
    answers: list[float] = field(default_factory=list)


def simulate(
    costs: Costs, loads: Mapping[int, float], cell_of: Mapping[int, int], cells: int, *, seconds: float, seed: int,
    routers: int, down: tuple[int, float, float] | None = None,
) -> Run:  # fmt: skip
    """Simulate tenants with these spans a second. `down`: a cell, and from when to when it fails."""
    clock, dice = Clock(), Random(seed)
    models = [CellModel(clock, costs) for _ in range(cells)]
    router = Cores(clock, routers)
    run = Run(models, seconds, 0.0)
    tenants, weights = list(loads), list(loads.values())
    rate = sum(weights) / costs.body
    cost = (costs.router + costs.router_span * costs.body) / 1e6

    def offer(tenant: int, began: float) -> None:
        cell = models[cell_of[tenant]]

        def routed() -> None:
            if cell.is_down:
                run.refused += 1
                clock.after(dice.uniform(1, 3), lambda: offer(tenant, began))
                return

            def done() -> None:
                took = clock.now - began
                cell.answers.append(took)
                run.answers.append(took)
                run.late += took > 1

            cell.take(Request(costs.body, done))

        router.serve(costs.refusal / 1e6 if cell.is_down else cost, routed)

    def arrive() -> None:
        if clock.now < seconds:
            run.offered += 1
            offer(dice.choices(tenants, weights)[0], clock.now)
            clock.after(dice.expovariate(rate), arrive)

    if down is not None:
        number, begins, ends = down
        clock.after(begins, lambda: setattr(models[number], "is_down", True))
        clock.after(ends, lambda: setattr(models[number], "is_down", False))
    arrive()
    clock.run(seconds * 3)
    run.router = router.busy / seconds / routers
    return run


def closed(costs: Costs, connections: int, bodies: int) -> tuple[float, float]:
    """Return spans a second, and the median answer in seconds, of one cell whose senders wait for each answer."""
    clock = Clock()
    cell = CellModel(clock, costs)
    left, took = bodies, list[float]()

    def send() -> None:
        nonlocal left
        if left:
            left -= 1
            began = clock.now
            cell.take(Request(costs.body, lambda: answered(began)))

    def answered(began: float) -> None:
        took.append(clock.now - began)
        send()

    for _ in range(connections):
        send()
    clock.run()
    return bodies * costs.body / clock.now, sorted(took)[len(took) // 2]


# --- tenants and cells ----------------------------------------------------------------------------------------------


def zipf(tenants: int, load: float, exponent: float) -> dict[int, float]:
    """Return spans a second by tenant, the largest first."""
    weights = [1 / rank**exponent for rank in range(1, tenants + 1)]
    return {tenant: load * weight / sum(weights) for tenant, weight in enumerate(weights)}


def hashed(loads: Mapping[int, float], cells: int) -> dict[int, int]:
    """Assign by a hash of the name."""
    return {tenant: crc32(f"tenant-{tenant}".encode()) % cells for tenant in loads}


def packed(loads: Mapping[int, float], cells: int) -> dict[int, int]:
    """Assign the largest tenant first, each to the cell with the least."""
    sums = [0.0] * cells
    assigned = {}
    for tenant in sorted(loads, key=lambda one: -loads[one]):
        assigned[tenant] = cell = sums.index(min(sums))
        sums[cell] += loads[tenant]
    return assigned


def rebalanced(loads: Mapping[int, float], before: Mapping[int, int], cells: int) -> dict[int, int]:
    """Move tenants from the fullest cell to the emptiest, the best move first, until none gains a hundredth."""
    assigned = dict(before)
    mean = sum(loads.values()) / cells
    for _ in range(len(loads)):
        sums = sums_of(loads, assigned, cells)
        full, empty = sums.index(max(sums)), sums.index(min(sums))
        gap = sums[full] - sums[empty]
        inside = [tenant for tenant, cell in assigned.items() if cell == full]
        best = min(inside, key=lambda one: abs(gap / 2 - loads[one]))
        if gap < 0.1 * mean or abs(gap - 2 * loads[best]) > gap - 0.01 * mean:
            break
        assigned[best] = empty
    return assigned


def sums_of(loads: Mapping[int, float], assigned: Mapping[int, int], cells: int) -> list[float]:
    sums = defaultdict(float)
    for tenant, cell in assigned.items():
        sums[cell] += loads[tenant]
    return [sums[cell] for cell in range(cells)]


# --- tables ---------------------------------------------------------------------------------------------------------


def up(value: float) -> int:
    return int(-(-value // 1))


def table(*heads: str) -> None:
    """Print the head of a table."""
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")


def line(*cells: object) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def routers_of(costs: Costs, load: float) -> float:
    """Return the router's cores for a load, as planned."""
    return load / costs.body * (costs.router + costs.router_span * costs.body) / 1e6 / PLANNED


def arithmetic(costs: Costs, loads: Sequence[int]) -> None:
    """Print what each load needs, without any queue."""
    print(
        f"A gateway's core: {costs.gateway_rate:,.0f} spans/s. A cell of {costs.gateways} gateways and "
        f"{costs.servers} cores of PostgreSQL: {costs.cell_rate:,.0f}, planned {PLANNED * costs.cell_rate:,.0f}.\n"
    )
    table("spans/s", "cells", "gateway cores", "PostgreSQL cores", "router cores", "wire, MB/s", "WAL, MB/s",
          "WAL of a cell", "rows, GB a day", "rows of a cell")  # fmt: skip
    for load in loads:
        cells = up(load / (PLANNED * costs.cell_rate))
        gateways, servers = load / (PLANNED * costs.gateway_rate), load * costs.server / 1e6 / PLANNED
        wal, rows = load * costs.wal_bytes / 1e6, load * costs.row_bytes * DAY / 1e9
        line(f"{load:,}", cells, up(gateways), up(servers), f"{routers_of(costs, load):.1f}",
             f"{load * costs.wire_bytes / 1e6:.0f}", f"{wal:.0f}", f"{wal / cells:.0f}", f"{rows:,.0f}",
             f"{rows / cells:,.0f}")  # fmt: skip


def row(name: str, tenants: str, run: Run) -> None:
    """Print a row of the fleet's table."""
    used = [cell.used(run.seconds) for cell in run.cells]
    full = run.cells[used.index(max(used))]
    line(tenants, name, len(run.cells), f"{100 * max(used):.0f}", f"{100 * min(used):.0f}", f"{100 * run.router:.0f}",
         f"{at(run.answers, 0.5):.0f} / {at(run.answers, 0.99):,.0f}", f"{at(full.answers, 0.99):,.0f}",
         f"{100 * run.late / max(len(run.answers), 1):.1f} %")  # fmt: skip


def at(answers: Sequence[float], share: float) -> float:
    """Return a quantile in milliseconds."""
    return sorted(answers)[int(len(answers) * share)] * 1e3 if answers else float("nan")


def fleet(costs: Costs, asked: argparse.Namespace) -> None:
    """Print the simulation of many cells."""
    load, cells = asked.load, asked.cells or up(asked.load / (PLANNED * costs.cell_rate))
    routers = max(2, up(routers_of(costs, load)))  # one of them may be restarted
    options = {"seconds": asked.seconds, "seed": asked.seed, "routers": routers}
    print(
        f"\n{load:,} spans/s in bodies of {costs.body}, router cores: {routers}, {asked.seconds:g} s, "
        f"seed {asked.seed}\n"
    )
    table("tenants", "assignment", "cells", "fullest cell, %", "emptiest, %", "router, %", "answer, median / 99 % ms",
          "99 % in the fullest", "later than 1 s")  # fmt: skip
    said = []
    for exponent in asked.zipf:
        loads = zipf(asked.tenants, load, exponent)
        named = f"{asked.tenants}, Zipf {exponent:g}"
        first = hashed(loads, cells)
        moved = rebalanced(loads, first, cells)
        for name, assigned in (("hash", first), ("rebalanced", moved), ("packed", packed(loads, cells))):
            row(name, named, simulate(costs, loads, assigned, cells, **options))
        others = [tenant for tenant in loads if moved[tenant] != first[tenant]]
        said.append(
            f"Zipf {exponent:g}: rebalancing moves {len(others)} tenants with "
            f"{100 * sum(loads[one] for one in others) / load:.0f} % of the spans; the largest tenant has "
            f"{loads[0]:,.0f} spans/s, {100 * loads[0] / costs.cell_rate:.0f} % of a cell."
        )
    print("\n" + "\n".join(said))
    failing(costs, zipf(asked.tenants, load, asked.zipf[0]), cells, options)
    largest(costs, asked)


def failing(costs: Costs, loads: Mapping[int, float], cells: int, options: Mapping[str, Any]) -> None:
    """Print what one cell that fails for a third of the time does to its own and to other tenants."""
    assigned, third = packed(loads, cells), options["seconds"] / 3
    whole = simulate(costs, loads, assigned, cells, **options)
    run = simulate(costs, loads, assigned, cells, down=(0, third, 2 * third), **options)
    beside, alone = ([a for cell in one.cells[1:] for a in cell.answers] for one in (run, whole))
    print(f"\nCell 0 fails from {third:g} to {2 * third:g} s: 503 for {run.refused:,} requests, repeated.\n")
    table("99 % of its tenants, ms", "99 % of the others", "of the others without it", "router, %", "recorded")
    line(f"{at(run.cells[0].answers, 0.99):,.0f}", f"{at(beside, 0.99):.0f}", f"{at(alone, 0.99):.0f}",
         f"{100 * run.router:.0f}", f"{len(run.answers):,} of {run.offered:,}")  # fmt: skip


def largest(costs: Costs, asked: argparse.Namespace) -> None:
    """Print how the answer's time grows with the only tenant of one cell."""
    print()
    table("one tenant alone in a cell, spans/s", "of the cell's rate, %", "answer, median / 99 % ms", "later than 1 s")
    for share in (0.5, 0.7, 0.8, 0.9, 0.95, 1.05):
        load = share * costs.cell_rate
        run = simulate(costs, {0: load}, {0: 0}, 1, seconds=asked.seconds, seed=asked.seed, routers=4)
        line(f"{load:,.0f}", f"{100 * share:.0f}", f"{at(run.answers, 0.5):.0f} / {at(run.answers, 0.99):,.0f}",
             f"{100 * run.late / max(len(run.answers), 1):.1f} %")  # fmt: skip


# --- comparison -----------------------------------------------------------------------------------------------------


async def flushed(dsn: str) -> float:
    """Return the median time of a commit of one row, microseconds."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE flushed (n int)")
    took = []
    for number in range(60):
        began = time.perf_counter()
        await connection.execute("INSERT INTO flushed VALUES ($1)", number)
        took.append(time.perf_counter() - began)
    await connection.execute("DROP TABLE flushed")
    await connection.close()
    return sorted(took)[30] * 1e6


def compare(costs: Costs, asked: argparse.Namespace) -> None:
    """Measure one cell here, and print its rate beside the model's with the measured service times."""
    from gateway import DIRECT, Running, offer, recorded
    from stages import batches, server_cpu

    from spanpost.store.sql.schema import upgrade

    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        commit = asyncio.run(flushed(dsn))
        gateway = Running(dsn, Path(home) / "0", 0, [DIRECT])
        try:
            offer([gateway.port], batches("whole", asked.warm_up, costs.body, 999), asked.connections, False)
            bodies = batches("whole", asked.spans, costs.body, 1000)
            _, pid = asyncio.run(recorded(dsn))
            cpu, server = gateway.cpu, server_cpu(pid)
            took, answers, waits = offer([gateway.port], bodies, asked.connections, False)
            cpu, server = gateway.cpu - cpu, server_cpu(pid) - server
        finally:
            gateway.stop()
    here = replace(
        costs, gateway=cpu / asked.spans * 1e6, server=server / asked.spans, commit=commit, gateways=1, servers=1,
        efficiency=1.0,
    )  # fmt: skip
    rate, median = closed(here, asked.connections, len(bodies))
    measured = asked.spans / took
    print(f"One cell here: {here.gateway:.0f} µs of the gateway and {here.server:.0f} of PostgreSQL a span, a commit "
          f"{commit / 1e3:.1f} ms; answers {dict(answers)}\n")  # fmt: skip
    table("", "spans/s", "answer, median ms")
    print(f"| measured | {measured:,.0f} | {waits[len(waits) // 2] * 1e3:.0f} |")
    print(f"| simulated | {rate:,.0f} | {median * 1e3:.0f} |")
    print(f"| measured to simulated | {measured / rate:.2f} | {waits[len(waits) // 2] / median:.2f} |\n", flush=True)


def main(asked: argparse.Namespace) -> None:
    costs = Costs(**{name: getattr(asked, name) for name in ("gateways", "servers", "body")})
    if not asked.no_measure:
        compare(costs, asked)
    arithmetic(costs, (1_000, 5_000, 10_000, 20_000, 50_000, 100_000))
    fleet(costs, asked)


if __name__ == "__main__":
    asker = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asker.add_argument("--no-measure", action="store_true", help="do not measure a cell here")
    asker.add_argument("--load", type=int, default=100_000, help="spans a second of all tenants")
    asker.add_argument("--cells", type=int, default=0, help="0: as the arithmetic says")
    asker.add_argument("--gateways", type=int, default=Costs.gateways, help="gateways of a cell")
    asker.add_argument("--servers", type=int, default=Costs.servers, help="cores of a cell's PostgreSQL")
    asker.add_argument("--body", type=int, default=Costs.body, help="spans of a request")
    asker.add_argument("--tenants", type=int, default=400)
    asker.add_argument("--zipf", type=float, nargs="+", default=[0.8, 1.1])
    asker.add_argument("--seconds", type=float, default=90.0)
    asker.add_argument("--seed", type=int, default=1)
    asker.add_argument("--spans", type=int, default=20_000, help="spans of the measured load")
    asker.add_argument("--warm-up", type=int, default=4096)
    asker.add_argument("--connections", type=int, default=4)
    asker.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    main(parse(asker, {"spans": 600, "body": 50, "warm_up": 100, "load": 20_000, "seconds": 6.0, "tenants": 50}))
