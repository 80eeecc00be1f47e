"""Real PostgreSQL servers and PgBouncers on TCP ports, started, killed and promoted by tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from spanpost.store.embedded import _LAUNCH
from spanpost.store.embedded_surroundings import environment
from spanpost.store.embedded_user import step_down
from spanpost.store.roles import grant
from tests.eventually import eventually, free_port

USER = step_down()


def _owned(path: Path) -> None:
    if USER is not None:
        os.chown(path, USER.uid, USER.gid)


def _as_user() -> dict[str, Any]:
    return {} if USER is None else {"user": USER.uid, "group": USER.gid, "extra_groups": []}


def launched(command: list[str], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program as a user without privileges; it ends with this process."""
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
    launch += ["-", "-"] if USER is None else [str(USER.uid), str(USER.gid)]
    with log.open("ab") as file:
        return subprocess.Popen(
            launch + command, cwd=directory, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


class Server:
    """A PostgreSQL in a directory of its own. Every program of this machine may connect as postgres."""

    def __init__(self, programs: Path, home: Path, name: str, **options: str) -> None:
        #: Known once it was started.
        self.port = 0
        self.directory = home / name
        self._programs, self._options, self._log = programs, options, home / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._home = home
        _owned(home)

    def made(self) -> Server:
        """Make a new, empty cluster."""
        self._run("initdb", "-D", self.directory, "-U", "postgres", "--auth=trust", "--locale=C", "-E", "UTF8", "-N")
        return self

    def copied(self, primary: Server) -> Server:
        """Make a standby of a running primary."""
        where = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        self._run("pg_basebackup", "-D", self.directory, "-d", where, "-R", "-X", "stream", "-c", "fast", "-N")
        return self

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            cwd=self._home, env=environment(), capture_output=True, text=True, check=False, **_as_user(),
        )  # fmt: skip
        assert not done.returncode, done.stderr

    def start(self) -> Server:
        """Start, and wait until it answers; the first time on a free port."""
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        is_first, self.port = not self.port, self.port or free_port()
        self._launch()

        def answers() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                said = self._log.read_text()
                # Other tests of this machine may have taken the port meanwhile.
                assert is_first, said[-2000:]
                assert "Address already in use" in said[-1000:], said[-2000:]
                self.port = free_port()
                self._launch()
            with suppress(OSError, asyncpg.PostgresError):
                return str(self.sql("SHOW data_directory")) == str(self.directory)
            return False

        eventually(answers)
        return self

    def _launch(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "timezone": "UTC",
            **self._options,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.directory)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._process = launched(command, self.directory, self._log)

    def kill(self) -> None:
        """Kill the server and all its processes at once, as a power cut does."""
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server hang: its port accepts connections, and nothing answers."""
        assert self._process is not None
        pids = [self._process.pid, *_children(self._process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def url(self, database: str = "postgres", user: str = "postgres", query: str = "") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{query}"

    def sql(self, statement: str, database: str = "postgres") -> Any:
        """Run a statement; return the value of its first row."""

        async def ask() -> Any:
            connection = await asyncpg.connect(self.url(database), timeout=60, statement_cache_size=0)
            try:
                return await connection.fetchval(statement)
            finally:
                connection.terminate()

        return asyncio.run(ask())


def a_writer(server: Server, name: str = "writer") -> str:
    """Make a role with a gateway's rights, and no more, in a migrated database."""

    async def make() -> None:
        connection = await asyncpg.connect(server.url())
        await connection.execute(f"CREATE ROLE {name} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        await grant(connection, {"writer": name})
        await connection.close()

    asyncio.run(make())
    return name


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


@contextmanager
def bouncer(program: str, home: Path, server: Server, mode: str, **options: object) -> Iterator[int]:
    """Run a PgBouncer in front of a server; yield its port."""
    port = free_port()
    directory = home / f"bouncer-{port}"
    directory.mkdir()
    _owned(directory)
    (directory / "users").write_text('"postgres" ""\n"spanpost" ""\n"writer" ""\n')
    settings = {
        "listen_addr": "127.0.0.1", "listen_port": port, "auth_type": "trust", "auth_file": directory / "users",
        "pool_mode": mode, "unix_socket_dir": "", "max_client_conn": 200, "default_pool_size": 30, **options,
    }  # fmt: skip
    lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    (directory / "ini").write_text("\n".join(lines) + "\n")
    process = launched([str(shutil.which(program)), str(directory / "ini")], directory, directory / "log")
    try:
        eventually(lambda: _takes(port, process, directory / "log"))
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _takes(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
