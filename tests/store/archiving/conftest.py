"""Fixtures of tests of archives: the system's PostgreSQL alone, as the embedded one does the same."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def postgres_server(server: str) -> str:
    """Return the DSN of a throw-away server with a migrated database."""
    return server
