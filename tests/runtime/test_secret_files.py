"""Secrets of this machine, in files that outlive what is encrypted or signed with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spanpost.runtime.secret_files import kept_secret


def test_a_secret_is_on_the_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is flushed before it has its name, and then its name: rows that a journal encrypts with it, and
    checkpoints that are signed with it, are never left without it by a machine that loses power.
    """
    place, synced = tmp_path / "state" / "journal.key", list[tuple[bool, bool]]()
    sync = os.fsync

    def noted(fd: int) -> None:
        sync(fd)
        synced.append((os.path.isdir(fd), place.exists()))

    monkeypatch.setattr(os, "fsync", noted)
    secret = kept_secret(place)
    assert synced == [(False, False), (True, True)]
    assert kept_secret(place) == secret
    assert len(synced) == 2


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    """A file that lost its content is refused, with what to do: nothing is encrypted with an empty key."""
    place = tmp_path / "journal.key"
    place.touch(0o600)
    with pytest.raises(OSError, match="is empty: restore it from a backup, or remove it and restart"):
        kept_secret(place)
