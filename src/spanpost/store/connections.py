"""Connections to the database: which host, through which pooler, and why there is none.

Rules
-----
1. A URL may name several hosts. Every new connection goes to one that takes writes, unless the URL says
   otherwise (`target_session_attrs`).
2. A host that does not answer delays nothing for long: the next host is tried beside it after `_STAGGER`.
3. The host of the last connection is tried first. So a process stays with the server that it found.
4. Of several hosts, one with an older timeline is never written: after a failover an old primary that comes
   back as a primary has forked, and its rows are those that the others do not have. A process knows only the
   timelines that it has seen, so fencing an old primary remains the operator's duty.
"""

from __future__ import annotations

import asyncio
import enum
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

#: Seconds after which the next host is tried beside one that has not answered.
_STAGGER: Final = 0.4
#: Seconds that opening a connection may take in all.
TIMEOUT: Final = 10.0
#: Errors of the driver: the database's refusals, and sessions that end. `InternalClientError`: it sends a statement in
#: a session that the server is just ending.
DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
#: Errors of a connection attempt. `ValueError` and `OverflowError`: the driver cannot read the URL.
UNREACHABLE: Final = (OSError, ValueError, OverflowError, *DRIVER_ERRORS)
_TIMELINE: Final = """
SELECT (SELECT system_identifier FROM pg_control_system()), CASE WHEN pg_is_in_recovery() THEN NULL
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 END"""
#: Parameters of a URL that name files.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


class NoServer(ConnectionError):
    """No host of the URL can be used. The message names the hosts and shows no password."""


class DatabaseHost(NamedTuple):
    """One of the hosts of a URL; without a port, the driver's default."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


class Pooling(enum.Enum):
    """What stands between a process and its database, in words."""

    NONE = "no pooler"
    SESSION = "a pooler that pools sessions"
    TRANSACTION = "a pooler that pools transactions"


class Connector:
    """Opens connections to one database. `writes` is false for those who only read: any host will do."""

    def __init__(self, dsn: str, *, writes: bool = True) -> None:
        asked, hosts = self._login(dsn)
        self._is_several = len(hosts) > 1
        self._hosts: Sequence[DatabaseHost | None] = hosts if self._is_several else (None,)
        self._attributes = asked.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")
        if self._is_several and self._attributes is None:
            self._attributes = "read-write" if writes else "any"
        #: The newest timeline seen, by the identifier of the database cluster.
        self._timelines: dict[int, int] = {}

    def login(self, dsn: str) -> None:
        """Open connections to the same servers with another user or password from now on."""
        self._login(dsn)

    def _login(self, dsn: str) -> tuple[dict[str, str], tuple[DatabaseHost, ...]]:
        self._dsn = dsn
        asked, hosts = _parts(dsn)
        self._files = {name: asked[name] for name in _FILES if name in asked}
        return asked, hosts

    async def connect(self, *_: Any, **options: Any) -> Any:
        """Open a connection. The arguments are those of `asyncpg.connect`, without a URL.

        Raises `NoServer`, or the driver's error when there is only one host.
        """
        if not self._is_several:
            return await self._open(self._hosts[0], options)
        trying: dict[asyncio.Task[Any], DatabaseHost | None] = {}
        waiting, failed = list(self._hosts), []
        try:
            while waiting or trying:
                if waiting:
                    host = waiting.pop(0)
                    trying[asyncio.create_task(self._open(host, options))] = host
                done, _pending = await asyncio.wait(
                    trying, timeout=_STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    host = trying.pop(task)
                    if task.exception() is None:
                        self._hosts = [host, *(other for other in self._hosts if other != host)]
                        return task.result()
                    failed.append(f"{host}: {self.explain(task.exception())}")
        finally:
            await _abandon(trying)
        raise NoServer("; ".join(failed))

    async def _open(self, host: DatabaseHost | None, options: dict[str, Any]) -> Any:
        named = {} if host is None else {"host": host.name, "port": host.port}
        settings = {"application_name": "spanpost"} | options.pop("server_settings", {})
        connection = await asyncpg.connect(
            self._dsn,
            **{"timeout": TIMEOUT, "target_session_attrs": self._attributes, **named, **options},
            server_settings=settings,
        )
        try:
            if self._is_several and self._attributes in ("read-write", "primary"):
                await self._refuse_older(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _refuse_older(self, connection: Any) -> None:
        cluster, timeline = await connection.fetchrow(_TIMELINE)
        newest = self._timelines.get(cluster, 0)
        if timeline is None or timeline < newest:
            raise NoServer(
                "it became a standby just now"
                if timeline is None
                else f"it is a primary on timeline {timeline}, and another host is on {newest} already, so it is an "
                "old primary that came back: stop it, and make it a standby of the new one"
            )
        self._timelines[cluster] = timeline

    def explain(self, error: BaseException | None) -> str:
        """Return why a connection failed, in words; without URL and password."""
        if isinstance(error, NoServer):
            return str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            is_name = error.verify_code in (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH
            return (
                f"the server's certificate is for another host name ({error.verify_message}); write the host as in the "
                "certificate"
                if is_name
                else f"the server's certificate is not trusted ({error.verify_message}); name the file of the CA that "
                "signed it in sslrootcert"
            )
        if isinstance(error, ssl.SSLError):
            return f"TLS failed ({error.reason or error}); check sslrootcert, sslcert and sslkey"
        if isinstance(error, OSError):
            for name, path in self._files.items():
                if not os.access(path, os.R_OK):
                    return f"the file that {name} names cannot be read"
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            return f"it is not {self._attributes}: a standby, or a server that takes no writes"
        if isinstance(error, asyncpg.ClientConfigurationError) and "certificate file" in str(error):
            return "the sslmode needs the file of a CA; name it in sslrootcert"
        if isinstance(error, (ValueError, OverflowError)):
            return "it is not the URL of a PostgreSQL"  # the parser's own message may quote the password
        return f"{type(error).__name__}: {error}"


def unreachable(dsn: str, error: BaseException) -> str:
    """Return the message for a database that cannot be used: what, why, and what to do. It never holds the
    URL, which has the password.
    """
    if str(getattr(error, "sqlstate", None)) == "42501":
        return (
            f"the role in DATABASE_URL may not do what is needed ({error}): grant it a writer's rights with `spanpost "
            "db grant --writer ROLE`, run by the role that owns the tables"
        )
    return because_of_a_pooler(error) or (
        f"the database cannot be reached ({Connector(dsn).explain(error)}): check DATABASE_URL and that the server "
        "runs, or leave DATABASE_URL out to use the embedded PostgreSQL"
    )


def because_of_a_pooler(error: BaseException) -> str:
    """Return the message for an error that a pooler causes; empty for any other."""
    if "startup parameter" in str(error):
        return (
            f"the pooler in front of the database refuses a parameter of DATABASE_URL ({error}): remove it from the "
            "URL and set it on the role instead (ALTER ROLE ... SET), or name it in ignore_startup_parameters"
        )
    if "statement pooling" in str(error):
        return (
            "the pooler in front of the database pools statements, and spanpost needs transactions: set its pool_mode "
            "to transaction or session"
        )
    return ""


async def _abandon(trying: dict[asyncio.Task[Any], DatabaseHost | None]) -> None:
    """Cancel attempts, and close the connection of one that has succeeded meanwhile."""
    for task in trying:
        task.cancel()
    if trying:
        await asyncio.wait(trying)
    for task in trying:
        if not task.cancelled() and task.exception() is None:
            task.result().terminate()


def _parts(dsn: str) -> tuple[dict[str, str], tuple[DatabaseHost, ...]]:
    """Return the parameters of a URL and the hosts that it names; nothing of one that cannot be read."""
    try:
        url = urlsplit(dsn)
        asked = dict(parse_qsl(url.query))
        named = unquote(url.netloc.rpartition("@")[2]) or asked.get("host", "")
        ports = [int(port) for port in asked.get("port", "").split(",") if port]
        found = [_host(one) for one in named.split(",") if one]
    except ValueError:
        return {}, ()
    if len(ports) == 1:
        ports *= len(found)
    return asked, tuple(
        host._replace(port=ports[place]) if host.port is None and place < len(ports) else host
        for place, host in enumerate(found)
    )


def _host(text: str) -> DatabaseHost:
    if text.startswith("/"):
        return DatabaseHost(text)
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return DatabaseHost(text.strip("[]"))
    return DatabaseHost(name.strip("[]"), int(port))


async def pooling(connection: Any, connector: Connector) -> Pooling:
    """Return what stands between us and the server. `connection` must keep no prepared statements.

    A pooler gives its clients another process id than the server's. Two clients that use one session of the
    server while both are connected share it: it pools transactions. A client that pools sessions keeps its
    own.
    """
    pid = await _pid(connection)
    if pid == connection.get_server_pid():
        return Pooling.NONE
    try:
        other = await connector.connect(statement_cache_size=0)
    except UNREACHABLE:
        return Pooling.SESSION
    try:
        # One session of the server in all: in session pooling the second client would wait for the first.
        async with asyncio.timeout(2.0), other.transaction():
            theirs = await other.fetchval("SELECT pg_backend_pid()")
            if theirs == pid or await _pid(connection) != pid:
                return Pooling.TRANSACTION
    except TimeoutError:
        return Pooling.SESSION
    finally:
        other.terminate()
    return Pooling.SESSION


async def _pid(connection: Any) -> int:
    async with connection.transaction():
        found: int = await connection.fetchval("SELECT pg_backend_pid()")
        return found


class Transacting:
    """A connection each of whose statements is a transaction, unless one is open.

    Behind a pooler that pools transactions, a statement outside one may be parsed in one session of the server
    and executed in another.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def transaction(self) -> Any:
        return self._connection.transaction()

    def cursor(self, query: str, *asked: Any, prefetch: int) -> Any:
        """Return the rows of a query one by one. Call it within a transaction."""
        return self._connection.cursor(query, *asked, prefetch=prefetch)

    async def close(self) -> None:
        await self._connection.close()

    async def execute(self, *asked: Any) -> Any:
        return await self._do(self._connection.execute, asked)

    async def executemany(self, *asked: Any) -> Any:
        return await self._do(self._connection.executemany, asked)

    async def fetch(self, *asked: Any) -> Any:
        return await self._do(self._connection.fetch, asked)

    async def fetchrow(self, *asked: Any) -> Any:
        return await self._do(self._connection.fetchrow, asked)

    async def fetchval(self, *asked: Any) -> Any:
        return await self._do(self._connection.fetchval, asked)

    async def _do(self, call: Callable[..., Awaitable[Any]], asked: tuple[Any, ...]) -> Any:
        if self._connection.is_in_transaction():
            return await call(*asked)
        async with self._connection.transaction():
            return await call(*asked)
