"""What the driver raises, in one place."""

from __future__ import annotations

import asyncpg

from spanpost.store.connections import DRIVER_ERRORS
from tests.conftest import ROOT


def test_every_error_of_the_driver_is_named() -> None:
    """Each class of error that the driver defines is caught where sessions may end: a new version's, too."""
    errors = [
        each for each in vars(asyncpg.exceptions).values() if isinstance(each, type) and issubclass(each, Exception)
    ]
    assert len(errors) > 200
    assert [each for each in errors if not issubclass(each, (*DRIVER_ERRORS, Warning))] == []


def test_errors_of_the_driver_are_listed_once() -> None:
    """No other module lists the classes: one that forgets a class ends a loop for ever, or hides the first error."""
    lists = [path.name for path in (ROOT / "src").rglob("*.py") if "asyncpg.InterfaceError" in path.read_text()]
    assert lists == ["connections.py"]
