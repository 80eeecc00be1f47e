"""Kills and freezes at a named point of a transaction: a lock holds the gateway there."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

from spanpost.store.connections import DRIVER_ERRORS
from tests.faults.soak.dealt import dealt
from tests.faults.soak.of_processes import OfGateway
from tests.faults.soak.world import World, now

#: Where a transaction stands when it waits for the lock: statement of the lock, pattern of the statement that waits.
POINTS = {
    "at the journal's row": ("LOCK TABLE journal IN SHARE MODE", "%journal%"),
    "at the fold's locks": ("LOCK TABLE task_state IN ACCESS EXCLUSIVE MODE", "%task_state%"),
    "at the audit rows": ("LOCK TABLE audit_rows IN SHARE MODE", "COPY%audit_rows%"),
    "at the tasks": ("LOCK TABLE agent_tasks IN SHARE MODE", "%agent_tasks%"),
    "at the checkpoints": ("LOCK TABLE agent_checkpoints IN SHARE MODE", "%agent_checkpoints%"),
    "at the deliveries": ("LOCK TABLE deliveries IN SHARE MODE", "%deliveries%"),
    "at an ordering key": ("LOCK TABLE ordering_keys IN SHARE MODE", "%ordering_keys%"),
    "at a rate limit": ("LOCK TABLE rate_limits IN SHARE MODE", "%rate_limits%"),
    "at a question": ("LOCK TABLE approvals IN SHARE MODE", "%approvals%"),
    "at the sealed log": ("LOCK TABLE seal_state IN SHARE MODE", "%seal_state%"),
}
_WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE $1 AND datname = current_database()"""


class AtPoint(OfGateway):
    """A gateway that is held at a point, and then struck; the lock ends with it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.point = self.chance.choice(sorted(POINTS))

    def __str__(self) -> str:
        return f"{super().__str__()} {self.point}"

    def strike(self, world: World) -> None:
        lock, waits = POINTS[self.point]
        until = now() + self.seconds
        is_struck = False

        async def hold(connection: Any) -> None:
            nonlocal is_struck
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '10s'")
                await connection.execute(lock)
                # All gateways, so that the victim is one of them; if not all come, those that do.
                while now() < until and await connection.fetchval(_WAITS, waits) < len(world.gateways):
                    await connection.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
                is_struck = True
                self.act(world)

        with suppress(OSError, *DRIVER_ERRORS):  # another fault took the database
            world.database.ask(hold)
        world.figures[f"{self.name} {self.point}"] += is_struck and now() < until
        if not is_struck:
            self.act(world)  # wherever it stands

    def act(self, world: World) -> None:
        """Kill or freeze it, while it waits for the lock."""
        raise NotImplementedError


@dealt
class KilledAtPoint(AtPoint):
    """`kill -9` of a gateway with its workers while a transaction stands at a point."""

    name, tries, ends_gateways = "killed at a point", ("one-transaction", "killed-at-each-step"), True

    def act(self, world: World) -> None:
        world.gateways[self.victim].kill()

    def lift(self, world: World) -> None:
        self.started(world)


@dealt
class WorkerKilledAtPoint(AtPoint):
    """`kill -9` of one process of a gateway at a point: its supervisor starts another, or we do."""

    name, tries, ends_gateways = "worker killed at a point", ("one-transaction", "killed-at-each-step"), True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.victim = 1
        self.touched = [1]

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if len(world.gateways) > 1 else "the second gateway has workers"

    def act(self, world: World) -> None:
        world.gateways[self.victim].kill_worker(self.chance)


@dealt
class FrozenAtPoint(AtPoint):
    """SIGSTOP of a gateway with its workers at a point, perhaps for longer than its leases."""

    name, tries, lasts = "frozen at a point", ("frozen", "replica-frozen"), (2.0, 14.0)

    def act(self, world: World) -> None:
        world.gateways[self.victim].signal(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        world.gateways[self.victim].signal(signal.SIGCONT)
