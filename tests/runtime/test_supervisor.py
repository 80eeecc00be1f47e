"""The directory that workers share: its path, and programs that clean up."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from spanpost.model.errors import ConfigError
from spanpost.runtime.supervisor import _new_directory


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
