"""Several workers behind one pair of ports: a supervisor, and a gateway in each process that it forks
(Linux).

The rules:

1. The supervisor holds the ports and the processes, and nothing else: no thread, no loop, no database.
2. The kernel gives connections to workers (SO_REUSEPORT). A worker passes spans to the owner of their trace
   (`spanpost.receivers.dealing`), or records them itself if the owner does not answer. Then, and for bodies
   that are not dealt, parts of one trace are serialized by the locks of their task in PostgreSQL.
3. Worker 0 starts first. If the settings are refused, only worker 0 meets the error, and the supervisor
   raises `ConfigError`. Worker 0 alone has what exists once: the metrics port, `grpc_socket`, Slack's
   Socket Mode.
4. A worker that ends without a stop signal is counted and started again, after a pause that doubles. A
   worker that shows no life for a minute is killed, one that a signal has stopped after a quarter of one.
5. A worker whose supervisor is gone stops.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from spanpost.http.server import listen
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.runtime import workers
from spanpost.runtime.workers import Worker
from spanpost.settings import Settings

log = logging.getLogger("spanpost.runtime.supervisor")

#: Directory of the metrics of all workers. prometheus_client reads the variable when it is imported.
_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
#: Pauses before a restart, first and longest; and the run time after which the pause starts again. Seconds.
_PAUSE: Final = (0.5, 30.0)
_WELL: Final = 60.0
#: Time limits of start and stop of a worker, seconds.
_START: Final = 300.0
_STOP: Final = 12.0
#: Seconds between two checks of the workers, and after how many without a sign of life one is killed: a busy one,
#: and one that a signal has stopped, to which the kernel goes on giving connections.
_CHECK, _SILENT, _STOPPED = 5.0, 12, 2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PREFIX: Final = "spanpost-workers-"
#: A directory that is younger, in seconds, may not be locked yet.
_NEW: Final = 60.0
#: Most bytes of the path of a worker's directory: a socket's path has at most 107.
_PATH: Final = 107 - len("/worker-63.sock")


class Supervisor:
    """Starts, restarts and stops the workers of `gateway.workers`. `serve` runs one worker until a signal
    stops it; False: not everything was finished.
    """

    def __init__(self, read: Callable[[], Settings], serve: Callable[[Callable[[], Settings]], bool]) -> None:
        self._read = read
        self._serve = serve
        self._ports: dict[str, int] = {}
        self._pids: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._restarts: dict[int, int] = {}
        self._pauses: dict[int, float] = {}
        self._due: dict[int, float] = {}
        #: Of each process that is ready its last sign of life, and the checks since.
        self._signs: dict[int, tuple[int, int]] = {}
        self._checked_at = time.monotonic()
        self._is_stopping = False
        self._is_done = True

    def run(self) -> bool:
        """Run until SIGTERM or SIGINT. False if not everything could be finished. Raises `ConfigError` if
        it cannot start.
        """
        settings = self._read()
        assert settings.gateway is not None
        self._count = settings.gateway.workers
        _clear_left()
        self._directory, lock = _new_directory()
        own_metrics = os.environ.get(_METRICS)
        self._alive, alive = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with self._held(settings):
                self._ends = alive
                if own_metrics is None:
                    metrics = self._directory / "metrics"
                    metrics.mkdir()
                    os.environ[_METRICS] = str(metrics)
                try:
                    self._start(0)
                    self._await_first()
                    for number in range(1, self._count if not self._is_stopping else 1):
                        self._start(number)
                    log.info("%d workers share the ports", self._count)
                    if not self._is_stopping:
                        self._watch()
                finally:
                    self._end()
            return self._is_done
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self._alive)
            os.close(alive)
            os.close(lock)
            if own_metrics is None:
                os.environ.pop(_METRICS, None)
            shutil.rmtree(self._directory, ignore_errors=True)

    @contextmanager
    def _held(self, settings: Settings) -> Iterator[None]:
        """Hold the ports, bound and not listening: no other process gets them, and no connection waits here."""
        section = settings.gateway
        assert section is not None
        held: list[socket.socket] = []
        try:
            for field, port in (("http_port", section.http_port), ("grpc_port", section.grpc_port)):
                if port < 0 or not section.enabled:
                    continue
                try:
                    if port and not section.share_ports:
                        listen(section.host, port).close()  # shared by us alone
                    family, _, _, _, address = socket.getaddrinfo(section.host, port, type=socket.SOCK_STREAM)[0]
                    one = socket.socket(family)
                    held.append(one)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    if family == socket.AF_INET6:
                        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if section.host == "::" else 1)
                    one.bind(address)
                except (OSError, OverflowError) as error:
                    why = getattr(error, "strerror", None) or str(error)
                    raise ConfigError(
                        f"gateway.{field}: cannot listen on {section.host} port {port}: {why}; stop what "
                        "listens there, or set "
                        f"SPANPOST_GATEWAY__{field.upper()} to another port, 0 for a free one, -1 for none"
                    ) from None
                self._ports[field] = one.getsockname()[1]
            yield
        finally:
            for one in held:
                one.close()

    def _settings(self) -> Settings:
        """Read the settings, with the ports that are held."""
        settings = self._read()
        if settings.gateway is None:
            return settings
        section = settings.gateway.model_copy(update={**self._ports, "share_ports": True})
        return settings.model_copy(update={"gateway": section})

    # --- processes --------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(number)
        self._pids[number], self._began[number] = pid, time.monotonic()

    def _become(self, number: int) -> NoReturn:
        """Run a worker in the forked process until its end."""
        code = 1
        try:
            os.close(self._ends)
            # The others stay blocked until `serve` handles them: they would end a worker that starts.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            workers.current = Worker(number, self._count, self._restarts.get(number, 0), self._directory)
            threading.Thread(target=self._stop_when_alone, name="spanpost-supervised", daemon=True).start()
            code = 0 if self._serve(self._settings) else 1
        except SpanpostError as error:
            code = 2
            if number == 0 and number not in self._restarts:
                (self._directory / "refused").write_text(str(error))
            else:
                log.error("worker %d cannot start: %s", number, error)
        except BaseException:
            log.exception("worker %d ended", number)
        finally:
            logging.shutdown()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _stop_when_alone(self) -> None:
        """Stop when the supervisor has ended, which closes the other end of the pipe."""
        os.read(self._alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _await_first(self) -> None:
        """Wait until worker 0 is ready. Raises `ConfigError` with its reason if it ends before."""
        until = time.monotonic() + _START
        while not (self._directory / "ready-0").exists() and not self._is_stopping:
            received = signal.sigtimedwait(_SIGNALS, 0.05)
            if received is not None:
                self._handle(received.si_signo)
            if 0 not in self._pids:
                refused = self._directory / "refused"
                raise ConfigError(
                    refused.read_text() if refused.exists() else "the first worker ended before it was ready"
                )
            if time.monotonic() > until:
                raise ConfigError(f"the first worker was not ready within {_START:g} seconds")

    def _watch(self) -> None:
        """Restart workers until a stop signal."""
        while True:
            pause = min([*self._due.values(), self._checked_at + _CHECK]) - time.monotonic()
            received = signal.sigtimedwait(_SIGNALS, max(pause, 0.0))
            if received is not None:
                self._handle(received.si_signo)
            if self._is_stopping:
                return
            if time.monotonic() - self._checked_at >= _CHECK:
                self._checked_at = time.monotonic()
                self._kill_hanging()
            for number in [n for n, due in self._due.items() if due <= time.monotonic()]:
                del self._due[number]
                self._start(number)

    def _kill_hanging(self) -> None:
        """Kill workers that show no life. Checks are counted, not seconds: a machine that slept is no hang."""
        for number, pid in self._pids.items():
            with suppress(FileNotFoundError):  # it is not ready yet
                sign = (self._directory / f"ready-{number}").stat().st_mtime_ns
                last, checks = self._signs.get(pid, (0, 0))
                self._signs[pid] = sign, checks + 1 if sign == last else 0
                is_stopped = _is_stopped(pid)
                if self._signs[pid][1] >= (_STOPPED if is_stopped else _SILENT):
                    why = "was stopped by a signal" if is_stopped else "hangs"
                    log.error("worker %d (process %d) %s and is killed", number, pid, why)
                    os.kill(pid, signal.SIGKILL)

    def _handle(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._is_stopping = True
            self._signal(signal.SIGTERM)
        elif number == signal.SIGHUP:
            self._signal(signal.SIGHUP)
        self._reap()

    def _signal(self, number: int) -> None:
        for pid in self._pids.values():
            os.kill(pid, number)

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # A worker that the signal ends, as it was not ready to handle it, has nothing to finish.
                self._is_done = self._is_done and (not self._is_stopping or status in (0, signal.SIGTERM))
                self._ended(number, pid)

    def _ended(self, number: int, pid: int) -> None:
        (self._directory / f"ready-{number}").unlink(missing_ok=True)
        del self._pids[number]
        self._signs.pop(pid, None)
        _forget_gauges(pid)

        if self._is_stopping:
            return
        if time.monotonic() - self._began[number] > _WELL:
            self._pauses.pop(number, None)
        pause = self._pauses.get(number, _PAUSE[0])
        self._pauses[number] = min(2 * pause, _PAUSE[1])
        self._restarts[number] = self._restarts.get(number, 0) + 1
        self._due[number] = time.monotonic() + pause
        log.error("worker %d (process %d) ended; it is started again in %g seconds", number, pid, pause)

    def _end(self) -> None:
        """Stop the remaining workers, gracefully if there is time."""
        self._is_stopping = True
        self._signal(signal.SIGTERM)
        until = time.monotonic() + _STOP
        while self._pids and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)
            self._reap()
        for number, pid in self._pids.items():
            log.error("worker %d (process %d) did not stop within %g seconds and is killed", number, pid, _STOP)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._is_done = False
        self._pids.clear()


def _is_stopped(pid: int) -> bool:
    """Return whether a signal (SIGSTOP) has stopped a process; not while a debugger follows it."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def _new_directory() -> tuple[Path, int]:
    """Return a new directory that this user alone can enter, and the lock that keeps programs that clean up
    (systemd-tmpfiles, `_clear_left`) away from it. Raises `ConfigError`.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise ConfigError(f"workers need a temporary directory: {error}; set TMPDIR to one") from None
    if len(os.fsencode(path)) > _PATH:
        path.rmdir()
        raise ConfigError(f"the path of the temporary directory {path.parent} is too long: set TMPDIR to a shorter one")
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return path, lock


def _clear_left() -> None:
    """Delete the directories of this user's supervisors that were killed: nobody holds their lock."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or time.time() - found.st_mtime < _NEW:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # workers that are still ending hold it, too
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _forget_gauges(pid: int) -> None:
    """Delete the gauges of a process that has ended; its counters stay."""
    for path in Path(os.environ[_METRICS]).glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
