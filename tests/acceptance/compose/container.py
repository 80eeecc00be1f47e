"""A service of Compose as a process with its own root directory, network and processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.compose.images import User
from tests.acceptance.compose.network import Network, mortal

#: What Docker leaves a container's root user, as setpriv names it.
DEFAULT = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw",
    "sys_chroot", "mknod", "audit_write", "setfcap",
)  # fmt: skip
#: Of this system's directories; the rest of an image's root directory is new.
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
OF_ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "localtime", "ssl", "alternatives", "postgresql-common")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
#: As /proc/net/tcp has them.
_LISTENING, _LOOPBACK = "0A", "0100007F"
DEVICES = ("null", "zero", "random", "urandom", "tty")


@dataclass(frozen=True)
class Mount:
    """A file or directory of this system in a container."""

    source: str
    target: str
    is_read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a container runs, and in what."""

    name: str
    command: Sequence[str]
    user: User
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    directories: Mapping[str, User]
    tmpfs: Sequence[str]
    working_dir: str
    is_read_only: bool
    capabilities: Sequence[str] = DEFAULT
    has_no_new_privileges: bool
    health: Sequence[str] = field(default=())


class Container:
    """The process. `directory` is for its root and its log."""

    def __init__(self, spec: Spec, network: Network, directory: Path) -> None:
        self.spec, self._network = spec, network
        self._log = directory / f"{spec.name}.log"
        script = directory / f"{spec.name}.sh"
        self._root = directory / spec.name
        self._root.mkdir()
        script.write_text(
            "\n".join(["set -eu", *self._made(), shlex.join(["exec", *self._within(), *spec.command]), ""])
        )
        command = [
            *mortal(), *network.enter, "nsenter", f"--net=/run/netns/{spec.name}",
            "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", str(script),
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=_ENVIRONMENT
            )

    def _made(self) -> list[str]:
        """Return the lines that make the root directory: what the image has, then what the service mounts."""
        spec, at = self.spec, shlex.quote(str(self._root))
        lines = [
            f"mount -t tmpfs -o mode=755 tmpfs {at}",
            f"cd {at}",
            "mkdir -p etc dev proc tmp var run run/secrets",
            "ln -s /run var/run",
            "chmod 1777 tmp",
            f"hostname {shlex.quote(spec.name)}",
            "mount -t proc proc proc",
        ]
        for name in SYSTEM:
            path = Path("/", name)
            if path.is_symlink():
                lines.append(f"ln -s {path.readlink()} {name}")
            elif path.exists():
                lines += self._bound(Mount(str(path), str(path)))
        for path in (Path("/etc", name) for name in OF_ETC):
            if path.exists():
                lines.append(f"cp -aL {path} etc/")
        hosts = "".join(f"{address} {name}\\n" for name, address in self._network.addresses.items())
        lines.append(f"printf '127.0.0.1 localhost\\n{hosts}' >etc/hosts")
        for name in DEVICES:
            lines += [f": >dev/{name}", f"mount --bind /dev/{name} dev/{name}"]
        for path, (uid, gid) in spec.directories.items():
            target = path.lstrip("/")
            lines += [f"mkdir -p {target}", f"chown {uid}:{gid} {target}"]
        placed = {mount.target: self._bound(mount) for mount in spec.mounts}
        for path in ("/dev/shm", *spec.tmpfs):
            target = path.lstrip("/")
            placed[path] = [f"mkdir -p {target}", f"mount -t tmpfs -o mode=1777 tmpfs {target}"]
        # As Docker orders them: what is mounted below another mount comes after it.
        for path in sorted(placed, key=lambda path: path.rstrip("/").count("/")):
            lines += placed[path]
        return [*lines, *([f"mount -o remount,bind,ro {at}"] if spec.is_read_only else [])]

    @staticmethod
    def _bound(mount: Mount) -> list[str]:
        """Return the lines that bind a file or directory."""
        source, target = shlex.quote(mount.source), shlex.quote(mount.target.lstrip("/"))
        parent = shlex.quote(os.path.dirname(mount.target).lstrip("/") or ".")
        place = f"mkdir -p {target}" if Path(mount.source).is_dir() else f"mkdir -p {parent}; : >>{target}"
        lines = [place, f"mount --rbind {source} {target}"]
        return [*lines, *([f"mount -o remount,bind,ro {target}"] if mount.is_read_only else [])]

    def _within(self) -> list[str]:
        """Return the command that runs the rest of it as the service's user, in its root directory."""
        spec = self.spec
        uid, gid = spec.user
        bounding = ",".join(["-all", *(f"+{name}" for name in spec.capabilities)])
        return [
            "chroot", str(self._root),
            "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all",
            f"--bounding-set={bounding}", *(["--no-new-privs"] if spec.has_no_new_privileges else []),
            "/usr/bin/env", "-i", f"--chdir={spec.working_dir}",
            *(f"{name}={value}" for name, value in spec.environment.items()),
        ]  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """How it ended; None: it runs."""
        return self._process.poll()

    @property
    def is_healthy(self) -> bool:
        """Whether its test of health passes now, run in the container."""
        pid = self._first()
        if pid is None:
            return False
        kind, *test = self.spec.health
        command = test if kind == "CMD" else ["/bin/sh", "-c", *test]
        entered = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--ipc", "--uts"]
        done = subprocess.run(
            [*entered, *self._within(), *command],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30, cwd="/", env=_ENVIRONMENT,
        )  # fmt: skip
        return done.returncode == 0

    def listens(self, port: int) -> bool:
        """Whether it listens on a port, beyond loopback."""
        with suppress(OSError):
            tables = (
                Path(f"/proc/{self._first()}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")
            )
            sockets = [line.split() for table in tables for line in table]
            open_at = [address.split(":") for _, address, _, state, *_ in sockets if state == _LISTENING]
            return any(int(of, 16) == port and address != _LOOPBACK for address, of in open_at)
        return False

    def _first(self) -> int | None:
        """Return its first process."""
        with suppress(OSError, ValueError):
            return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())
        return None

    def stop(self, grace: float) -> int | None:
        """Send SIGTERM to its first process; return the exit code, None if it had to be killed."""
        first = self._first()
        if first is not None:
            os.kill(first, signal.SIGTERM)
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(60)
