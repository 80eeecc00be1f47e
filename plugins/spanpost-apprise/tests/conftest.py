"""Fixtures of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def settings_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove all settings but those that a test gives."""
    for name in list(os.environ):
        if name.upper().startswith("SPANPOST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
