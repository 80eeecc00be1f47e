"""Faults inside PostgreSQL: an index with garbage, a snapshot held open, a vacuum that waits, deadlocks."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

from tests.faults.soak.dealt import dealt
from tests.faults.soak.of_the_database import OfDatabase
from tests.faults.soak.world import World, now

_PAGE = 8192
#: Indexes that recording, delivering, asking and sealing read most.
_INDEXES = """
SELECT c.oid::regclass::text, pg_relation_filepath(c.oid) FROM pg_class c
JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
WHERE c.relkind = 'i' AND t.relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 8192
  AND t.relname ~ '^(audit_rows|agent_tasks|task_state|deliveries|ordering_keys|approvals|seal|timers|journal)'
ORDER BY pg_stat_get_numscans(c.oid) DESC, 1 LIMIT 24"""


@dealt
class IndexCorrupted(OfDatabase):
    """Each page of an index overwritten while PostgreSQL is stopped; `REINDEX` mends it."""

    name, tries, lasts = "index corrupted", ("answered", "index-corrupted"), (2.0, 8.0)

    def strike(self, world: World) -> None:
        index, path = self.chance.choice(world.database.rows(_INDEXES))
        home = str(world.database.rows("SHOW data_directory")[0][0])
        world.database.execute("CHECKPOINT")
        world.database.stop()
        garbage = self.chance.randbytes(_PAGE)  # no page of PostgreSQL has such a header
        with open(os.path.join(home, path), "r+b") as file:
            pages = os.fstat(file.fileno()).st_size // _PAGE
            for _ in range(pages):
                file.write(garbage)
        world.database.start()
        self._index = str(index)
        print(f"         {pages} pages of {index}", flush=True)

    def lift(self, world: World) -> None:
        import asyncpg

        while True:
            with suppress(asyncpg.DeadlockDetectedError):  # with a gateway's transaction; an operator repeats it, too
                world.database.execute(f"REINDEX INDEX {self._index}")
                return


@dealt
class SnapshotHeld(OfDatabase):
    """Somebody's transaction that stays open: nothing can be vacuumed, and no transaction id is the oldest."""

    name, tries, lasts = "snapshot held", ("never-500", "snapshot-held"), (5.0, 30.0)

    def strike(self, world: World) -> None:
        """See `deal`: the snapshot belongs to a connection."""

    def deal(self, world: World) -> None:
        async def hold(connection: Any) -> None:
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute("SELECT pg_current_xact_id(), count(*) FROM agent_tasks")
                await asyncio.sleep(self.seconds)

        world.database.ask(hold)
        self.lifted = now()


@dealt
class VacuumStalled(OfDatabase):
    """A vacuum that waits for a page on which somebody's cursor stands, and holds its table's lock meanwhile."""

    name, tries, lasts = "vacuum stalled", ("never-500", "snapshot-held"), (2.0, 15.0)

    def strike(self, world: World) -> None:
        """See `deal`: the cursor belongs to a connection."""

    def deal(self, world: World) -> None:
        asyncio.run(self._deal(world))
        self.lifted = now()

    async def _deal(self, world: World) -> None:
        import asyncpg

        table = self.chance.choice(["agent_tasks", "deliveries", "task_state", "ordering_keys"])
        reader = await asyncpg.connect(world.database.superuser_dsn, timeout=10)
        vacuum = await asyncpg.connect(world.database.superuser_dsn, timeout=10)
        try:
            async with reader.transaction():
                await reader.execute(f"DECLARE standing CURSOR FOR SELECT * FROM {table}")
                await reader.execute("FETCH 1 FROM standing")
                waiting = asyncio.ensure_future(vacuum.execute(f"VACUUM (FREEZE) {table}"))
                await asyncio.sleep(self.seconds)
            await asyncio.wait_for(waiting, 60)
        finally:
            reader.terminate()
            vacuum.terminate()


@dealt
class Deadlocks(OfDatabase):
    """Somebody else's transactions that lock rows in orders of their own, so that the server ends one of two."""

    name, tries, lasts = "deadlocks", ("replicas", "deadlocks"), (4.0, 12.0)

    def strike(self, world: World) -> None:
        """See `deal`: the locks belong to connections."""

    def deal(self, world: World) -> None:
        asyncio.run(self._deal(world))
        self.lifted = now()

    async def _deal(self, world: World) -> None:
        until = now() + self.seconds
        await asyncio.gather(*(self._lock(world, until) for _ in range(3)))

    async def _lock(self, world: World, until: float) -> None:
        import asyncpg

        connection = await asyncpg.connect(world.database.superuser_dsn, timeout=10)
        tables = ["agent_tasks", "task_state", "deliveries", "ordering_keys", "rate_limits"]
        try:
            while now() < until:
                with suppress(asyncpg.DeadlockDetectedError):
                    async with connection.transaction():
                        for _ in range(4):
                            table, order = self.chance.choice(tables), self.chance.choice(["ctid", "ctid DESC"])
                            await connection.execute(
                                f"SELECT 1 FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"
                                f" ORDER BY {order} LIMIT 8)) FOR UPDATE"
                            )
                            await asyncio.sleep(0.3)
        finally:
            connection.terminate()
