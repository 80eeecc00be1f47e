"""The connections of an HTTP server: a fair share for each address, and the file descriptors they need."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from spanpost.http.shares import KEPT, Full, SharedPlaces, network_of

log = logging.getLogger("spanpost.runtime.gateway")

#: Connections beyond the limit, which get only some pages, such as health.
SPARE: Final = 32
#: Order in which connections are closed for a new one: those without a response so far, then idle ones, then
#: those whose body still arrives or whose response is not read. A connection that waits for its response is
#: closed last, and only for an address with fewer connections.
NEW, IDLE, SLOW = 0, 1, 2
ANSWERING: Final = KEPT
#: Descriptors for the rest of the process: database connections, sinks, files.
_OTHERS: Final = 512


class Connection(Protocol):
    """**Protocol:** an accepted connection, perhaps not ready yet."""

    def end(self) -> None:
        """Close it in favour of another connection."""


class Connections:
    """The places of connections.

    If all are taken, a new connection replaces one of the address with the most.
    """

    def __init__(self, most: int) -> None:
        self._places: SharedPlaces[Connection] = SharedPlaces(most, renews=True)
        self._spare: SharedPlaces[Connection] = SharedPlaces(SPARE, renews=True)

    def add(self, connection: Connection, host: str) -> bool:
        """Give a connection a place.

        False: a spare one, because all others of its address wait for responses.
        """
        holder, is_spare = (network_of(host),), False
        try:
            ended = self._places.take(holder, connection)
        except Full:
            ended, is_spare = self._spare.take(holder, connection), True
        if ended is not None:
            ended.end()
        return not is_spare

    def move(self, connection: Connection, rank: int) -> None:
        """Note a connection's state: `NEW`, `IDLE`, `SLOW` or `ANSWERING`."""
        self._places.move(connection, rank)

    def remove(self, connection: Connection) -> None:
        """Note that a connection is closed. Safe to repeat."""
        self._places.leave(connection)
        self._spare.leave(connection)


def fit_descriptors(http: int, grpc: int) -> tuple[int, int]:
    """Return how many HTTP and gRPC connections the process can open, at most the wanted numbers.

    Raises the limit of open files as far as the system allows.
    """
    wanted = http + SPARE + grpc + _OTHERS
    allowed = _raise_limit(wanted)
    if allowed >= wanted:
        return http, grpc
    share = max(allowed - SPARE - min(_OTHERS, allowed // 2), 2) / (http + grpc)
    less = max(1, int(http * share)), max(1, int(grpc * share))
    log.warning(
        "only %d files may be open (ulimit -n), %d are needed: at most %d HTTP and %d gRPC connections are accepted, "
        "not %d and %d; raise the hard limit (systemd: LimitNOFILE=%d), or set gateway.max_connections lower",
        *(allowed, wanted, *less, http, grpc, wanted),
    )
    return less


def _raise_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted` if it is lower; return the new limit."""
    try:
        import resource
    except ImportError:  # a system without such a limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        return soft
    log.info("the limit of open files was raised to %d from %d, for the connections", most, soft)
    return most
