"""Servers that tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanpost.store.embedded_surroundings import copied, reachable
from tests.acceptance.postgres.servers import USER, Server
from tests.conftest import find

#: Speed instead of durability, for servers that are not killed.
FAST = {"fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def programs(open_dir: Callable[[], Path]) -> Path:
    """The programs of a server: initdb, postgres, pg_basebackup; where only root can reach them, copies."""
    found = Path(find("postgres"))
    if USER is None or reachable(found, USER.uid, USER.gid):
        return found
    return copied(found, open_dir())


@pytest.fixture(scope="module")
def plain_server(programs: Path, open_dir: Callable[[], Path]) -> Iterator[Server]:
    """A server that all programs of this machine may use."""
    server = Server(programs, open_dir(), "plain", **FAST).made().start()
    yield server
    server.stop()
