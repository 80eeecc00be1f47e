"""The processes of a run: PostgreSQL, its network, a fake Slack, gateways; and what people would ask of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar
from unittest import mock

from spanpost.store import embedded
from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.sql import schema
from tests.acceptance import gateways
from tests.acceptance.gateway_process import request
from tests.eventually import eventually, free_port
from tests.faults.posted import Slack, environment, settings
from tests.faults.soak.disk import Disk
from tests.faults.soak.machine import Machine
from tests.faults.soak.network import Network
from tests.faults.soak.sent import SentSpans

Came = TypeVar("Came")

#: Beyond the ports that Linux gives to connections, so that a gateway keeps its own; runs at once have others.
PORTS = 61_500 + os.getpid() % 7 * 500
PEOPLE = {"alice": "soak-token-of-alice", "bob": "soak-token-of-bob"}
OPTIONS = {"max_connections": "60", "max_wal_size": "256MB"}
#: Where it has no disk of its own: acknowledged means committed.
WITHOUT_DISK = {"fsync": "off", "full_page_writes": "off"}

#: Seconds within which a gateway is ready, on a machine where several runs at once take all processors.
STARTS_WITHIN = 300.0
#: Seconds by which Slack's clock is ahead in a run.
SLACK_AHEAD = (0.0, -3 * 3600.0, -600.0, 600.0, 3 * 3600.0)

#: Functions of actors' modules that return, before the gateways start, variables and TOML for each gateway.
PREPARED: list[Callable[[World], tuple[dict[str, str], str]]] = []


class Rows(Protocol):
    """A database that is read at the end."""

    @property
    def dsn(self) -> str:
        """Where it is."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""


class Database:
    """PostgreSQL, which is killed and started again at the same address."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o755)
        self.disk, self.machine = Disk(home), Machine(home / "machine")
        self._home = home / "data" if self.disk.why_not else self.disk.path / "data"
        self.start()

    def start(self) -> None:
        """Start it, also after a kill."""
        self.server = EmbeddedPostgres(self._home, options=OPTIONS | (WITHOUT_DISK if self.disk.why_not else {}))
        variables = {**embedded.environment(), **self.machine.variables}
        with mock.patch.object(embedded, "environment", return_value=variables):
            self.server.start()
        self.dsn, self.superuser_dsn = self.server.dsn(), self.server.superuser_dsn()

    @property
    def why_no_disk(self) -> str:
        """Why it has no disk of its own; empty: it has."""
        return self.disk.why_not

    def stop(self) -> None:
        """Stop it in order; transactions that are open are rolled back."""
        self.server.stop()

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self.disk.close()

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self.server._server is not None
        return self.server._server.pid

    def pids(self) -> list[int]:
        """Return all its processes, the postmaster first."""
        return [self.pid, *children(self.pid)]

    def ask(self, do: Callable[[Any], Awaitable[Came]]) -> Came:
        """Run `do(connection)` as the superuser."""
        import asyncpg

        async def asked() -> Came:
            connection = await asyncpg.connect(self.superuser_dsn, timeout=10)
            try:
                return await do(connection)
            finally:
                connection.terminate()

        return asyncio.run(asked())

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser."""

        async def run(connection: Any) -> None:
            for statement in statements:
                await connection.execute(statement)

        self.ask(run)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        found: list[Any] = self.ask(lambda connection: connection.fetch(sql))
        return [tuple(row) for row in found]


class Gateway(gateways.Gateway):
    """A gateway with its children, which may be stopped as a whole, and the times of its starts."""

    started: tuple[float, ...] = ()
    #: What it sees of its machine.
    machine: Machine

    def start(self) -> None:
        """Start, without waiting until it is ready."""
        self.started = (*self.started, time.time())
        with self._log.open("ab") as log:
            command = [*self._command, "run"]
            self.process = subprocess.Popen(
                command, env=self._environment, cwd=self._directory, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, number: int) -> None:
        """Send a signal to the process and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, with its workers."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Return its workers, oldest first; none where it is one process."""
        return children(self.process.pid)

    def kill_worker(self, chance: random.Random) -> None:
        """Kill one of its workers, if it has any just now."""
        with suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(self.workers()), signal.SIGKILL)

    @property
    def is_ready(self) -> bool:
        """True when it answers that it is ready."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health/ready", timeout=5):
            return True
        return False

    def resident(self) -> int:
        """Return the MiB that it and its workers have in memory."""
        return sum(resident(pid) for pid in (self.process.pid, *self.workers()))


class World:
    """All of a run: ``with World(directory, seed=7) as world``."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        gateways: int = 2,
        *,
        has_standby: bool = False,
        slack_down: float = 0.0,
        retention: float = 0.0,
    ) -> None:
        self.directory, self.seed, self._count = directory, seed, gateways
        self._has_standby = has_standby
        #: Seconds from the start in which Slack is down.
        self.slack_down = slack_down
        #: Seconds after which rows leave for archives; 0: they stay.
        self.retention = retention
        self.sent = SentSpans()
        #: Set when no sender makes new telemetry.
        self.closing = threading.Event()
        #: What went wrong outside of the checker.
        self.findings: list[str] = []
        #: What faults measured, by what it is; part of the result.
        self.figures: Counter[str] = Counter()
        #: Seconds by which Slack's clock is ahead of ours.
        self.slack_ahead = 0.0
        self.actors: dict[str, Any] = {}
        #: What `PREPARED` left for the actors, by name.
        self.shared: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> World:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def small_disk(self, directory: Path, mebibytes: int) -> bool:
        """Put a directory on a disk of its own; return whether this machine lets us."""
        disk = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(directory)]
        if os.geteuid() != 0 or subprocess.run(disk, capture_output=True, check=False).returncode:
            return False
        self.on_end(lambda: subprocess.run(["umount", "-l", str(directory)], check=False))
        return True

    def _open(self) -> None:
        self.database, self.network = self._databases()
        asyncio.run(schema.upgrade(self.database.dsn))
        self._stack.callback(self.network.close)
        self.slack_machine = Machine(self.directory / "slack-machine")
        if self.slack_machine.variables:
            self.slack_ahead = choice_of(self.seed, "Slack's clock").choice(SLACK_AHEAD)
        self.slack_machine.set(clock=self.slack_ahead)
        state = self.directory / "slack.json"
        self.slack = Slack(state, "--seed", str(self.seed), **self.slack_machine.variables)
        self._stack.callback(self.slack.close)
        self._prepared = [each(self) for each in PREPARED]
        #: Variables of each gateway, beside `settings`.
        self.variables = {name: value for each, _ in self._prepared for name, value in each.items()}
        self.gateways: list[Gateway] = []
        for number in range(self._count):
            self._add_gateway(number)

    def _databases(self) -> tuple[Database, Network]:
        if self._has_standby:
            from tests.faults.soak.standby import NetworkOfPair, Pair

            pair = Pair(self.directory / "postgres")
            self._stack.callback(pair.close)
            return pair, NetworkOfPair(pair, self.directory)
        database = Database(self.directory / "postgres")
        self._stack.callback(lambda: database.close())
        return database, Network(database.dsn, self.directory)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def settings(self) -> dict[str, str]:
        """Return the environment of a process that records and delivers."""
        key = base64.b64encode(hashlib.sha256(str(self.seed).encode()).digest()).decode()
        return {
            **settings(self.slack.url.replace("127.0.0.1", "localhost")),
            "SPANPOST_SLACK__INTERACTIVE": "true",  # durable agents deliver, too, and receive no clicks
            "SPANPOST_GATEWAY__JOURNAL_BYTES": str(4 << 20),  # reached by an overload, and soon worked off
            "SPANPOST_SEALING__ENABLED": "true",
            "SPANPOST_SEALING__KEY": key,
            "SPANPOST_SEALING__INTERVAL": "1",
            "SPANPOST_SEALING__SIGN_EVERY": "5",
        }

    def _add_gateway(self, number: int) -> None:
        """Start a gateway: the first behind the proxy, the second with two workers, others plain."""
        directory = self.directory / f"gateway-{number}"
        directory.mkdir()
        tokens = "".join(
            f'[[interactions.tokens]]\nname = "{name}"\nroles = ["operator", "approver"]\n'
            f'sha256 = ["{hashlib.sha256(token.encode()).hexdigest()}"]\n'
            for name, token in PEOPLE.items()
        )
        (directory / "spanpost.toml").write_text(tokens + "".join(toml for _, toml in self._prepared))
        more = {"SPANPOST_GATEWAY__WORKERS": "2"} if number == 1 else {}
        machine = Machine(directory / "machine")
        gateway = Gateway(
            self.network.dsn if number == 0 else self.database.dsn,
            directory,
            http=free_port(PORTS),
            grpc=free_port(PORTS),
            **self.settings(),
            **self.variables,
            **machine.variables,
            **more,
        )
        gateway.machine = machine
        self.gateways.append(gateway)
        self._stack.callback(gateway.kill)
        self.wait_until_up(gateway)

    @staticmethod
    def wait_until_up(gateway: Gateway) -> None:
        """Wait until a gateway that was just started is ready."""

        def is_up() -> bool:
            assert gateway.process.poll() is None, f"it ended: {gateway.log}"
            return gateway.is_ready

        eventually(is_up, limit=STARTS_WITHIN)

    def spawn(self, module: str, log: Path, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a process of ours."""
        return self.launch([sys.executable, "-W", "ignore", "-m", module, *words], log, **more)

    def launch(self, command: Sequence[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
        """Start a program, which ends with the run at the latest."""
        with log.open("ab") as to:
            process = subprocess.Popen(
                command, env=environment(**more), cwd=self.directory, stdout=to, stderr=to, start_new_session=True
            )
        self._stack.callback(_end, process)
        return process

    def on_end(self, do: Callable[[], object]) -> None:
        """Call something at the end of the run."""
        self._stack.callback(do)

    def tell_slack(self, **command: Any) -> None:
        """Change the fake Slack."""
        url = self.slack.url.replace("/api/", "/_control")
        status, said = request(url, json.dumps(command).encode(), **{"content-type": "application/json"})
        assert status == 200, said


def choice_of(seed: int, *words: object) -> random.Random:
    """Return dice of their own for each use, so that one more actor changes no other's."""
    return random.Random(f"{seed} {' '.join(map(str, words))}")


def children(pid: int) -> list[int]:
    """Return the children of a process, oldest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return sorted(found)


def resident(pid: int) -> int:
    """Return the MiB that a process has in memory; 0 if it is gone."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024
    return 0


def pause(stop: threading.Event, seconds: float) -> None:
    """Wait, or return as soon as the run closes."""
    stop.wait(seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def now() -> float:
    """Return the time of all measurements of a run."""
    return time.monotonic()
