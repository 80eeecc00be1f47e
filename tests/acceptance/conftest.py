"""Fixtures for tests of a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import Gateway, Start


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Lend ``start(toml, *options, **environment)``: a gateway on the fresh database."""
    with ExitStack() as stack:

        def go(toml: str = "", *options: str, **environment: str) -> Gateway:
            gateway = Gateway(dsn, tmp_path, toml, *options, **environment)
            stack.callback(gateway.kill)
            return gateway

        yield go
