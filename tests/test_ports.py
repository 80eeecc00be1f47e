"""Ports of servers that cannot take port 0."""

from __future__ import annotations

import socket
from pathlib import Path

from spanpost.testing.ports import free_port
from tests.conftest import ROOT


def test_no_connection_and_no_other_server_gets_them() -> None:
    """They are below the ports that the system gives to connections, differ, and one that is taken is left out."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert max(ports) < lowest
    with socket.create_server(("127.0.0.1", ports[-1] + 1 if ports[-1] % 500 != 499 else ports[-1] - 499)) as taken:
        assert free_port() != taken.getsockname()[1]


def test_no_benchmark_picks_a_port_and_lets_it_go() -> None:
    """A port of the system's that was closed again goes to the next connection: none is chosen so."""
    assert [path.name for path in (ROOT / "bench").glob("*.py") if ".bind((" in path.read_text()] == []
