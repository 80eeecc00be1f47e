"""Faults of PostgreSQL and of the network before it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

from tests.faults.soak.dealt import Fault, dealt
from tests.faults.soak.network import Passes
from tests.faults.soak.world import World, now


class OfDatabase(Fault):
    """A fault of PostgreSQL, for all gateways at once."""

    part = "database"


@dealt
class DatabaseRestarted(OfDatabase):
    """PostgreSQL stopped with its sessions cut, and started again."""

    name, tries, lasts = "database restarted", ("never-500", "connections-cut"), (0.1, 5.0)

    def strike(self, world: World) -> None:
        world.database.stop()

    def lift(self, world: World) -> None:
        world.database.start()


@dealt
class DatabaseKilled(DatabaseRestarted):
    """`kill -9` of all processes of PostgreSQL, and its next start."""

    name, tries = "database killed", ("answered", "database-killed")

    def strike(self, world: World) -> None:
        for pid in world.database.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().strike(world)


@dealt
class BackendKilled(OfDatabase):
    """`kill -9` of one session's process: PostgreSQL ends all sessions and recovers by itself."""

    name, tries, lasts = "backend killed", ("one-transaction", "database-killed"), (0.5, 1.0)

    def strike(self, world: World) -> None:
        mine = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pids = [row[0] for row in world.database.rows(mine)]
        with suppress(ProcessLookupError, IndexError):
            os.kill(self.chance.choice(pids), signal.SIGKILL)


@dealt
class DatabaseHangs(OfDatabase):
    """SIGSTOP of all processes of PostgreSQL: it accepts nothing and answers nothing."""

    name, tries, lasts = "database hangs", ("never-500", "database-hangs"), (1.0, 8.0)

    def strike(self, world: World) -> None:
        self._stopped = world.database.pids()
        self._all(signal.SIGSTOP)

    def lift(self, world: World) -> None:
        self._all(signal.SIGCONT)

    def _all(self, number: int) -> None:
        for pid in self._stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@dealt
class DatabaseReadOnly(OfDatabase):
    """A server whose transactions are read-only (25006), as after a failover to a standby."""

    name, tries = "database read-only", ("never-500", "failover")

    def strike(self, world: World) -> None:
        world.database.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")

    def lift(self, world: World) -> None:
        world.database.execute(
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )


@dealt
class ConnectionsCut(OfDatabase):
    """All connections ended by the server, several times."""

    name, tries, lasts = "connections cut", ("answered", "connections-cut"), (0.1, 0.5)

    def strike(self, world: World) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            world.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            self.wait(0.3)


@dealt
class ConnectionsUsedUp(OfDatabase):
    """`max_connections` reached by others, after the gateways' connections were ended."""

    name, tries = "connections used up", ("never-500", "connections-cut")

    def deal(self, world: World) -> None:
        asyncio.run(self._deal(world))
        self.lifted = now()

    def strike(self, world: World) -> None:
        """See `deal`: the connections belong to a loop."""

    async def _deal(self, world: World) -> None:
        import asyncpg

        held: list[Any] = []
        for is_second in (False, True):
            with suppress(asyncpg.TooManyConnectionsError):
                while len(held) < 100:
                    held.append(await asyncpg.connect(world.database.dsn, timeout=10))
            if not is_second:
                await asyncio.to_thread(
                    world.database.execute,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND pid <> pg_backend_pid() AND NOT pid = ANY("
                    f"ARRAY{[connection.get_server_pid() for connection in held] or [0]})",
                )
        await asyncio.sleep(self.seconds)
        for connection in held:
            connection.terminate()


@dealt
class LockHeld(OfDatabase):
    """A table that is locked by somebody else's transaction."""

    name, tries, lasts = "lock held", ("never-500", "database-hangs"), (1.0, 12.0)

    def deal(self, world: World) -> None:
        table = self.chance.choice(["agent_tasks", "audit_rows", "deliveries", "task_state", "approvals"])

        async def hold(connection: Any) -> None:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(self.seconds)

        world.database.ask(hold)
        self.lifted = now()

    def strike(self, world: World) -> None:
        """See `deal`: the lock belongs to a connection."""


class OfNetwork(Fault):
    """A fault of the network between the first gateway and PostgreSQL."""

    part = "network"
    passes: Passes

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.touched = [0]

    def strike(self, world: World) -> None:
        world.network.set(self.passes)

    def lift(self, world: World) -> None:
        world.network.set(Passes.ALL)


@dealt
class NetworkCut(OfNetwork):
    """No connection to PostgreSQL."""

    name, tries, passes = "network cut", ("never-500", "connections-cut"), Passes.NOTHING


@dealt
class NetworkOneWay(OfNetwork):
    """Statements arrive at PostgreSQL, also COMMIT, and no answer comes back; then the connection is cut."""

    name, tries, passes = "network one way", ("one-row", "commit-answer-lost"), Passes.ONE_WAY


@dealt
class NetworkSlow(OfNetwork):
    """Each thousand bytes between gateway and PostgreSQL are late by 20 ms."""

    name, tries, passes, lasts = "network slow", ("answered", "sync-slow"), Passes.SLOWLY, (3.0, 10.0)
