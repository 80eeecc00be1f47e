"""Forward TCP connections from one network namespace into another: ``python forward.py MAPPINGS``.

MAPPINGS is a JSON list of ``[listening namespace, host, port, target namespace, host, port]``, namespaces by
their paths. It prints a line when all of them listen. Run by itself: tests may only connect to loopback.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from contextlib import suppress
from threading import Thread

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace: str) -> socket.socket:
    """Return a socket of a network namespace, which the calling thread enters."""
    with open(namespace) as file:
        if _libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}: {os.strerror(ctypes.get_errno())}")
    return socket.socket()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy one way until its end."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def forward(client: socket.socket, namespace: str, host: str, port: int) -> None:
    """Connect, and copy both ways. A refused connection closes the client's."""
    with client, socket_in(namespace) as there, suppress(OSError):
        there.connect((host, port))
        back = Thread(target=copy, args=(there, client), daemon=True)
        back.start()
        copy(client, there)
        back.join()


def serve(listener: socket.socket, *target: object) -> None:
    while True:
        client, _ = listener.accept()
        Thread(target=forward, args=(client, *target), daemon=True).start()


def main() -> None:
    servers = []
    for listening, host, port, *target in json.loads(sys.argv[1]):
        listener = socket_in(listening)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        servers.append(Thread(target=serve, args=(listener, *target), daemon=True))
    for server in servers:
        server.start()
    print("ready", flush=True)
    for server in servers:
        server.join()


if __name__ == "__main__":
    main()
