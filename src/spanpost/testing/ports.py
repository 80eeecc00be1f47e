"""Ports for servers of tests and benchmarks that cannot take port 0."""

from __future__ import annotations

import itertools
import os
import socket

#: Below the ports that systems give to connections and to port 0, so that only tests use them.
_FIRST, _OF_EACH_WORKER = 20_000, 500
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
#: Runs beside each other, and the processes of one, begin at different ports.
_numbers = itertools.count(os.getpid())


def free_port(lowest: int = _FIRST) -> int:
    """Return a port for a server that cannot take port 0, or that must receive only its own requests.

    `lowest`: the first of all workers' ports, beyond the ports that systems give. Another test never gets it, no
    connection does, and no exporter that outlived its own server sends to it.
    """
    first = lowest + _worker % 20 * _OF_EACH_WORKER
    for _ in range(_OF_EACH_WORKER):
        port = first + next(_numbers) % _OF_EACH_WORKER
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
