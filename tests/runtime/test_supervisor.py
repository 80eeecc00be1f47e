"""The supervisor without its workers: the directory that they share, and those that hang."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from spanpost.model.errors import ConfigError
from spanpost.runtime import own_metrics, workers
from spanpost.runtime.supervisor import _SILENT, _STOPPED, Supervisor, _clear_left, _is_stopped, _new_directory
from spanpost.runtime.workers import Worker
from spanpost.settings import MetricsSettings, Settings
from tests.eventually import eventually


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory in which temporary directories are made; its path is short, as that of a socket must be."""
    with TemporaryDirectory() as made:
        monkeypatch.setattr("tempfile.tempdir", made)
        yield Path(made)


def test_the_directory_is_kept_from_others_and_from_programs_that_clean_up(parent: Path) -> None:
    """The directory is locked, so that systemd-tmpfiles does not remove it, and closed to other users."""
    path, lock = _new_directory()
    assert path.stat().st_mode & 0o777 == 0o700
    cleaning = os.open(path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(cleaning, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)
    fcntl.flock(cleaning, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(cleaning)


def test_the_directory_of_a_killed_supervisor_is_cleared(parent: Path) -> None:
    """The next supervisor deletes what nobody locks; it keeps a locked one, a new one, and what is not its own."""
    held, lock = _new_directory()
    left, fallen = _new_directory()
    os.close(fallen)
    new = parent / "spanpost-workers-new"
    other = parent / "another"
    link = parent / "spanpost-workers-link"
    for path in (new, other):
        path.mkdir()
    link.symlink_to(other)
    (left / "metrics").mkdir()
    for path in (held, left, other):
        os.utime(path, (0, 0))
    os.utime(link, (0, 0), follow_symlinks=False)
    _clear_left()
    assert {path.name for path in parent.iterdir()} == {held.name, "spanpost-workers-new", "another", link.name}
    os.close(lock)


@pytest.mark.slow
def test_the_metrics_keep_their_port_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port that was chosen for worker 0 is that of the next worker 0, too."""
    section = MetricsSettings(port=0)
    found = []
    for restarts in range(2):
        monkeypatch.setattr(workers, "current", Worker(0, 2, restarts, tmp_path))
        metrics = own_metrics.metrics_of(section, {})
        assert metrics is not None
        found.append(own_metrics.serve(metrics, section, is_gateway=True))
        metrics.close()
    assert found[0] == found[1] is not None


def test_a_path_that_is_too_long_for_a_socket_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable to set, and no directory stays behind."""
    long = parent / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(ConfigError, match="set TMPDIR to a shorter one"):
        _new_directory()
    assert not list(long.iterdir())


def test_a_directory_that_cannot_be_made_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a temporary directory there is one sentence, and no traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(parent / "none"))
    with pytest.raises(ConfigError, match="set TMPDIR"):
        _new_directory()


def test_a_worker_that_shows_no_life_is_killed(tmp_path: Path) -> None:
    """Of two processes the one whose worker is silent for all checks ends; one that is not ready yet has time."""
    supervisor = Supervisor(Settings, lambda _: True)
    supervisor._directory = tmp_path
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    workers = [Worker(number, 3, 0, tmp_path) for number in range(3)]
    try:
        supervisor._pids = {number: process.pid for number, process in enumerate(processes)}
        for worker in workers[:2]:
            worker.begin()
        for check in range(_SILENT + 1):
            os.utime(tmp_path / "ready-0", (check, check))
            workers[2].show_life()
            supervisor._kill_hanging()
        assert processes[1].wait(60) == -signal.SIGKILL
        assert [process.poll() for process in (processes[0], processes[2])] == [None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_worker_that_a_signal_has_stopped_is_killed_soon(tmp_path: Path) -> None:
    """After two checks a stopped process ends, as connections to it would wait; one that is only busy does not."""
    supervisor = Supervisor(Settings, lambda _: True)
    supervisor._directory = tmp_path
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    try:
        supervisor._pids = {number: process.pid for number, process in enumerate(processes)}
        for number in range(2):
            Worker(number, 2, 0, tmp_path).begin()
        processes[0].send_signal(signal.SIGSTOP)
        eventually(lambda: _is_stopped(processes[0].pid))
        supervisor._kill_hanging()
        for _ in range(_STOPPED - 1):
            supervisor._kill_hanging()
            assert processes[0].poll() is None
        supervisor._kill_hanging()
        assert processes[0].wait(60) == -signal.SIGKILL
        assert processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_ready_worker_shows_life(tmp_path: Path) -> None:
    """Each sign changes what the supervisor compares; before a worker is ready there is none."""
    worker = Worker(0, 1, 0, tmp_path)
    worker.show_life()
    assert worker.missing() == [0]
    worker.begin()
    os.utime(tmp_path / "ready-0", (1, 1))
    worker.show_life()
    assert (tmp_path / "ready-0").stat().st_mtime > 1
