"""A gateway with an API, in this process, with a real PostgreSQL: two tenants, a token for each role."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanpost.testing.postgres import as_role
from tests.conftest import WRITER, fresh_database
from tests.interactions.api.served import Served


@pytest.fixture(scope="session")
def api_dsn(server: str) -> Iterator[str]:
    """DSN of the database of the tests of the API."""
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def served(api_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway for all tests, with a gateway's rights in the database and no more: each uses ids of its
    own.
    """
    home: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith("SPANPOST_") or name in ("DATABASE_URL", "OTEL_SDK_DISABLED"):
                patch.delenv(name)
        patch.chdir(home)
        made = Served(as_role(api_dsn, WRITER))
    with made as served:
        yield served
