"""The embedded PostgreSQL with real processes: it starts and ends with its owner, and disturbs no other
process.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.model.errors import ConfigError
from spanpost.testing.postgres import FAST

asyncpg = pytest.importorskip("asyncpg")
from spanpost.store.embedded import EmbeddedPostgres  # noqa: E402
from spanpost.store.embedded_lock import AlreadyOpen, DirectoryLock  # noqa: E402
from spanpost.store.embedded_roles import READER, USER, address  # noqa: E402
from spanpost.store.embedded_surroundings import binaries  # noqa: E402

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc"),
]

_OWNER = """
import sys, threading
from pathlib import Path
from spanpost.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
if "worker" in sys.argv:
    thread = threading.Thread(target=server.start); thread.start(); thread.join()
else:
    server.start()
print(server._server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    from tests.store.conftest import missing

    try:
        binaries()
    except ConfigError as error:
        missing(str(error))


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that an unprivileged user can reach too: pytest's own is closed to all but root."""
    path = Path(tempfile.mkdtemp(prefix="spanpost-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def ask(dsn: str, question: str) -> Any:
    """Run one query on the server."""

    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(run())


def working_in(path: Path) -> list[int]:
    """Return the living processes whose working directory is this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").removesuffix(" (deleted)") == str(path):
                stat = (entry / "stat").read_text()
                if stat[stat.rindex(")") + 2] != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(pid: int, timeout: float = 20.0) -> bool:
    """Wait until a process that is not our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)


def an_owner(data: Path, *words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a real process that owns an embedded server; return it and the server's pid."""
    command = [sys.executable, "-c", _OWNER, str(data), *words]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


@pytest.mark.parametrize("name", ["plain", "with spaces, a comma and 'quotes\"", "l" * 150])
def test_any_path_will_do(home: Path, name: str) -> None:
    """With spaces, quotes and a path longer than a socket's the server starts, stops and keeps its rows."""
    server = EmbeddedPostgres(home / name, options=FAST)
    dsn = server.start()
    assert ask(dsn, "SELECT current_database()") == "spanpost"
    ask(dsn, "CREATE TABLE kept AS SELECT 42 AS x")
    socket_dir = Path(json.loads((home / name / "lock").read_text())["socket_dir"])
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    server.stop()
    server.stop()
    assert working_in(home / name / "pg") == []
    assert not (socket_dir / ".s.PGSQL.5432").exists()
    with EmbeddedPostgres(home / name, options=FAST) as again:
        assert ask(again, "SELECT x FROM kept") == 42


def test_a_password_is_asked_for(home: Path) -> None:
    """The socket alone is not enough: the password is needed; nothing listens on TCP."""
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        before, _, after = dsn.partition("@")
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(before.rpartition(":")[0] + ":wrong@" + after, "SELECT 1")
        assert ask(dsn, "SHOW listen_addresses") == ""
        assert (home / "db" / "password").stat().st_mode & 0o077 == 0


def test_the_daily_roles_are_no_superusers(home: Path) -> None:
    """Neither owner nor reader can make roles or databases, run programs or enter another database."""
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        secret = (home / "db" / "password").read_text()
        where = json.loads((home / "db" / "lock").read_text())["socket_dir"]
        reading = address(READER, secret, where)
        for each, name in ((dsn, USER), (reading, READER)):
            rights = (
                "SELECT concat_ws(' ', current_user, rolsuper, rolcreaterole, rolcreatedb) FROM pg_roles "
                "WHERE rolname = session_user"
            )
            assert ask(each, rights) == f"{name} f f f"
            memberships = "SELECT count(*) FROM pg_auth_members WHERE member = session_user::regrole"
            assert ask(each, memberships) == 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                ask(each, f"COPY (SELECT 1) TO PROGRAM 'touch {home}/touched'")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                ask(address(name, secret, where, "postgres"), "SELECT 1")
        for made in ("CREATE TABLE t ()", "CREATE TEMP TABLE t ()", "CREATE SCHEMA s"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                ask(reading, made)
    assert not (home / "touched").exists()


@pytest.mark.parametrize("words", [(), ("worker",)], ids=["main thread", "worker thread that ended"])
def test_kill_9_of_the_owner_leaves_nothing(home: Path, words: tuple[str, ...]) -> None:
    """When Python is killed the server ends by itself; before that it lives, though a short-lived thread
    started it.
    """
    owner, server = an_owner(home / "db", *words)
    assert server in working_in(home / "db" / "pg")
    os.kill(server, 0)
    owner.kill()
    owner.wait()
    assert gone(server)
    assert working_in(home / "db" / "pg") == []


@pytest.mark.proves("answered", "database-killed")
def test_kill_9_of_both_reopens(home: Path) -> None:
    """When owner and server are killed the next start recovers all commits."""
    owner, server = an_owner(home / "db")
    where = json.loads((home / "db" / "lock").read_text())["socket_dir"]
    password = (home / "db" / "password").read_text()
    ask(address(USER, password, where), "CREATE TABLE kept AS SELECT 7 AS x")
    os.kill(server, signal.SIGKILL)
    owner.kill()
    owner.wait()
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        assert ask(dsn, "SELECT x FROM kept") == 7


def test_what_an_owner_left_behind_is_stopped(home: Path) -> None:
    """A server that outlived its owner is found by its directory and stopped."""
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        ask(dsn, "CREATE TABLE kept AS SELECT 1 AS x")
        uid = (home / "db" / "pg").stat().st_uid
    sockets = f"unix_socket_directories={home / 'db' / 'run'}"
    command = [binaries() / "postgres", "-D", home / "db" / "pg", "-c", "listen_addresses=", "-c", sockets]
    left = subprocess.Popen(
        command, cwd=home / "db" / "pg", user=uid, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        assert left.wait(timeout=90) is not None
        assert ask(dsn, "SELECT x FROM kept") == 1


def test_a_second_opener_is_refused_with_an_address(home: Path) -> None:
    """Of two openers the second gets a refusal with a working address; the first goes on."""
    owner, server = an_owner(home / "db")
    second = EmbeddedPostgres(home / "db")
    with pytest.raises(AlreadyOpen, match=f"process {owner.pid}") as refused:
        second.start()
    assert (home / "db" / "password").read_text().strip() not in str(refused.value)
    assert refused.value.socket_dir is not None
    assert ask(second.dsn(), "SELECT 1") == 1
    assert owner.stdin is not None
    owner.stdin.close()
    assert owner.wait(timeout=90) == 0
    assert gone(server)


@pytest.mark.proves("answered", "database-killed")
def test_the_password_is_on_the_disk_before_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that loses power after the first start has the server's password, not an empty file: it is synced
    before the server has it, and the names of both are.
    """
    synced: list[tuple[str, bool]] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        sync(fd)
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), (home / "db" / "pg").exists()))

    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", noted)
        with EmbeddedPostgres(home / "db", options=FAST):
            pass
    assert [one for one in synced if one[0].startswith(str(home / "db"))][:2] == [
        (str(home / "db" / "password"), False),
        (str(home / "db"), True),
    ]


def test_a_disk_that_failed_does_not_keep_the_lock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that ends while its disk takes no writes gives the directory free all the same."""

    def refuses(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    first, second = DirectoryLock(home), DirectoryLock(home)
    first.acquire()
    with monkeypatch.context() as failing:
        failing.setattr(os, "ftruncate", refuses)
        first.release()
    second.acquire()
    second.release()


def test_an_innocent_process_survives_a_stale_pid(home: Path) -> None:
    """A postmaster.pid that now names a foreign process does not harm it."""
    with EmbeddedPostgres(home / "db", options=FAST):
        pass
    innocent = subprocess.Popen(["/bin/sh", "-c", "read _"], stdin=subprocess.PIPE, cwd=home)
    (home / "db" / "pg" / "postmaster.pid").write_text(f"{innocent.pid}\n{home / 'db' / 'pg'}\n0\n5432\n\n\n")
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_an_interrupted_initdb_is_done_again(home: Path) -> None:
    """An unfinished cluster is created again."""
    (home / "db" / "pg.new" / "base").mkdir(parents=True)
    (home / "db" / "pg.new" / "PG_VERSION").write_text("18\n")
    (home / "db").chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(home / "db", "postgres" if Path("/var/lib/postgresql").exists() else "nobody")
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert not (home / "db" / "pg.new").exists()


def test_a_fork_neither_stops_nor_keeps_it(home: Path) -> None:
    """A forked child that exits stops nothing, and one that outlives its parent does not hold the lock."""
    code = """
import os, sys
from spanpost.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], options={"fsync": "off"})
server.start()
short = os.fork()
if short == 0:
    sys.exit(0)
os.waitpid(short, 0)
assert server.is_running
long = os.fork()
if long == 0:
    os.close(1); sys.stdin.read(); os._exit(0)
print(server._server.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", code, str(home / "db")]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    assert parent.wait(timeout=90) == -signal.SIGKILL
    assert gone(server)
    with EmbeddedPostgres(home / "db", options=FAST) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert parent.stdin is not None
    parent.stdin.close()


def test_another_major_version_is_refused(home: Path) -> None:
    """A directory made by another PostgreSQL is refused with both versions and what to do."""
    with EmbeddedPostgres(home / "db", options=FAST):
        pass
    version = home / "db" / "pg" / "PG_VERSION"
    version.write_text("12\n")
    with pytest.raises(ConfigError, match=r"made by PostgreSQL 12 and these binaries are 1\d"):
        EmbeddedPostgres(home / "db").start()


def test_binaries_elsewhere_are_named_not_guessed(home: Path) -> None:
    """A directory without a server is refused with its name."""
    with pytest.raises(ConfigError, match="no postgres in"):
        EmbeddedPostgres(home / "db", pg_bin=home).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_steps_down(home: Path) -> None:
    """Started by root, the server runs as an ordinary user, and no parent directory changes its mode."""
    server = EmbeddedPostgres(home / "deep" / "db", options=FAST)
    with server as dsn:
        assert ask(dsn, "SELECT 1") == 1
        assert 0 not in {Path(f"/proc/{pid}").stat().st_uid for pid in working_in(home / "deep" / "db" / "pg")}
        assert server.runs_as is not None
        assert server.runs_as.name in ("spanpost", "postgres", "nobody")
    assert home.stat().st_mode & 0o777 == 0o755
    assert (home / "deep" / "db").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_refused_where_the_user_has_no_access(home: Path) -> None:
    """Below a closed directory root gets a clear refusal, and the directory stays closed."""
    home.chmod(0o700)
    with pytest.raises(ConfigError, match="/var/lib/spanpost"):
        EmbeddedPostgres(home / "db").start()
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_binaries_that_only_root_reaches_are_copied(home: Path) -> None:
    """When only root can reach the environment, the server still starts, and modes there stay as they are."""
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    package = binaries().parent.parent
    shutil.copytree(binaries().parent, closed / package.name / "pg", symlinks=True)
    shutil.copytree(package.parent / f"{package.name}.libs", closed / f"{package.name}.libs")
    with EmbeddedPostgres(home / "db", pg_bin=closed / package.name / "pg" / "bin", options=FAST) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


def test_within_a_running_event_loop(home: Path) -> None:
    """It can be started and stopped from code in an event loop."""

    async def run() -> Any:
        server = EmbeddedPostgres(home / "db", options=FAST)
        dsn = await asyncio.to_thread(server.start)
        connection = await asyncpg.connect(dsn)
        answer = await connection.fetchval("SELECT 1")
        await connection.close()
        server.stop()
        return answer, server.is_running

    assert asyncio.run(run()) == (1, False)
    assert working_in(home / "db" / "pg") == []


def test_a_directory_of_others_is_refused(home: Path) -> None:
    """Where another user could replace the cluster or its password, nothing is started and nothing is made."""
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="can be changed by other users"):
        EmbeddedPostgres(shared).start()
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_of_another_owner_is_refused(home: Path) -> None:
    """A directory that another user has made before, in a place for all, is not taken."""
    foreign = home / "foreign"
    foreign.mkdir(mode=0o755)
    os.chown(foreign, 12345, 12345)
    with pytest.raises(ConfigError, match="can be changed by other users"):
        EmbeddedPostgres(foreign).start()


def test_a_careless_umask_opens_nothing(home: Path) -> None:
    """With a umask of 0 every file and directory of a started cluster is its user's alone."""
    before = os.umask(0)
    try:
        with EmbeddedPostgres(home / "db", options=FAST):
            opened = [p for p in (home / "db", *(home / "db").rglob("*")) if p.lstat().st_mode & 0o077]
    finally:
        os.umask(before)
    assert [path for path in opened if not path.is_symlink()] == []
