"""Two cells, and a router in front of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.receivers.cells.raw_cell import RawCell, Routed, Start


@pytest.fixture
def red() -> Iterator[RawCell]:
    cell = RawCell()
    yield cell
    cell.close()


@pytest.fixture
def blue() -> Iterator[RawCell]:
    cell = RawCell()
    yield cell
    cell.close()


@pytest.fixture
def start(clean_environment: Any, red: RawCell, blue: RawCell) -> Iterator[Start]:
    """Start a router in front of the two cells."""
    running: list[Routed] = []

    def go(urls: list[str] | None = None, **settings: Any) -> Routed:
        running.append(Routed(urls or [red.url], [blue.url], **settings))
        return running[-1]

    yield go
    for one in running:
        one.router.stop()  # safe to repeat
