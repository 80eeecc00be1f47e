"""A primary with a synchronous standby (`--standby`), and the fault that promotes it and rebuilds the old primary.

Acknowledged then means that it is on the standby. Each commit waits for it, so a run is slower.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from spanpost.store.embedded_surroundings import copied, reachable
from tests.acceptance.postgres.servers import USER, Server
from tests.conftest import find
from tests.eventually import eventually
from tests.faults.soak.dealt import dealt
from tests.faults.soak.network import Network
from tests.faults.soak.of_the_database import OfDatabase
from tests.faults.soak.world import OPTIONS, PORTS, Database, World, free_port, now


class Pair(Database):
    """A primary and its synchronous standby. `dsn` names both, and means the one that takes writes."""

    def __init__(self, home: Path) -> None:
        found, home = Path(find("postgres")), home / "pair"
        home.mkdir(parents=True)
        home.parent.chmod(0o755)
        self._programs = found if USER is None or reachable(found, USER.uid, USER.gid) else copied(found, home.parent)
        self._home, self._made = home, 0
        #: A server ends with the thread that started it.
        self._thread = ThreadPoolExecutor(1)
        ports = [free_port(PORTS), free_port(PORTS)]
        self.primary = self._started(self._server(ports[0]).made())
        self.standby = self._started(self._server(ports[1]).copied(self.primary))
        self._wait_for_standby()

    def _started(self, server: Server) -> Server:
        return self._thread.submit(server.start).result()

    def _server(self, port: int) -> Server:
        self._made += 1
        server = Server(self._programs, self._home, f"server-{self._made}", **OPTIONS, wal_level="replica")
        server.port = port
        return server

    def _wait_for_standby(self) -> None:
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.primary.sql("SELECT pg_reload_conf()")
        eventually(lambda: self.primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))

    @property
    def dsn(self) -> str:  # type: ignore[override]
        """The address that follows a failover, as docs/how-to/postgresql.md has it."""
        ports = sorted((self.primary.port, self.standby.port))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    @property
    def superuser_dsn(self) -> str:  # type: ignore[override]
        """The address of the primary."""
        return self.primary.url()

    @property
    def why_no_disk(self) -> str:
        return "a primary and its standby share no disk of their own"

    @property
    def pid(self) -> int:
        assert self.primary._process is not None
        return self.primary._process.pid

    def start(self) -> None:
        """Start the primary again; the standby follows it by itself."""
        self._started(self.primary)

    def stop(self) -> None:
        """Stop the primary in order."""
        self.primary.stop()

    def close(self) -> None:
        """Stop both."""
        self.standby.kill()
        self.primary.stop()
        self._thread.shutdown()

    def start_standby(self) -> None:
        """Start the standby again after a kill."""
        self._started(self.standby)

    def fail_over(self) -> None:
        """Promote the standby; the old primary is gone."""
        self.standby.sql("SELECT pg_promote()")
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """Make the old primary a standby of the new one."""
        old = self.standby
        shutil.rmtree(old.directory)
        self.standby = self._started(self._server(old.port).copied(self.primary))
        self._wait_for_standby()


class NetworkOfPair(Network):
    """The proxy before whichever is the primary."""

    def __init__(self, pair: Pair, home: Path) -> None:
        self._pair = pair
        super().__init__(f"postgresql://postgres@/postgres?host={pair.primary.directory}", home)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._pair.primary.port)


class OfPair(OfDatabase):
    """A fault of one of the two servers."""

    @classmethod
    def why_not(cls, world: World) -> str:
        return "" if isinstance(world.database, Pair) else "needs --standby"

    @staticmethod
    def pair(world: World) -> Pair:
        """Return the two."""
        assert isinstance(world.database, Pair)
        return world.database


@dealt
class FailedOver(OfPair):
    """The primary killed, or frozen and then killed; the standby promoted; the old primary rebuilt as standby."""

    name, tries, lasts = "failover", ("standby", "failover"), (0.5, 5.0)

    def strike(self, world: World) -> None:
        self._is_frozen = self.chance.random() < 0.5
        if self._is_frozen:
            for pid in world.database.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
        else:
            self.pair(world).primary.kill()

    def lift(self, world: World) -> None:
        pair = self.pair(world)
        if self._is_frozen:
            pair.primary.kill()  # it is fenced before the standby is promoted
        pair.fail_over()
        self.lifted = now()
        pair.rebuild()


@dealt
class StandbyKilled(OfPair):
    """The standby killed and started again: until then no commit is answered."""

    name, tries, lasts = "standby killed", ("standby", "standby-cancelled"), (1.0, 6.0)

    def strike(self, world: World) -> None:
        self.pair(world).standby.kill()

    def lift(self, world: World) -> None:
        self.pair(world).start_standby()
        self.lifted = now()
