"""PostgreSQL over TLS: whose certificates are trusted, and what the errors say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import trustme

from spanpost.model.errors import ConfigError
from spanpost.settings import load
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from tests.acceptance.postgres.conftest import FAST
from tests.acceptance.postgres.servers import USER, Server

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


class Secured(NamedTuple):
    """A server that accepts TLS connections with a client's certificate only, and the files of its clients."""

    server: Server
    files: Path

    def url(self, host: str = "localhost", **query: str) -> str:
        named = {"sslmode": "verify-full", "sslrootcert": "ca.pem", "sslcert": "client.pem", "sslkey": "client.key"}
        asked = {name: value for name, value in (named | query).items() if value}
        asked = {n: str(self.files / v) if n != "sslmode" else v for n, v in asked.items()}
        return f"postgresql://postgres@{host}:{self.server.port}/postgres?{urlencode(asked)}"


@pytest.fixture(scope="module")
def secured(programs: Path, open_dir: Callable[[], Path]) -> Iterator[Secured]:
    """A server whose certificate is for localhost."""
    home = open_dir()
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(home / "ca.pem")
    other.cert_pem.write_to_path(home / "other.pem")
    for name, issued in {
        "server": ca.issue_cert("localhost"),
        "client": ca.issue_cert("client@example.com", common_name="postgres"),
        "stranger": other.issue_cert("stranger@example.com", common_name="postgres"),
    }.items():
        issued.private_key_pem.write_to_path(home / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(home / f"{name}.pem")
    key = home / "server.key"
    key.chmod(0o600)
    if USER is not None:
        os.chown(key, USER.uid, USER.gid)
    files = {"ssl_cert_file": home / "server.pem", "ssl_key_file": key, "ssl_ca_file": home / "ca.pem"}
    server = Server(programs, home, "secured", ssl="on", **FAST, **{n: str(path) for n, path in files.items()}).made()
    # The first line lets the fixture itself look whether the server is up.
    server.start()
    (server.directory / "pg_hba.conf").write_text(
        "hostssl all postgres 127.0.0.1/32 cert\nhostssl all postgres ::1/128 cert\n"
    )
    server.sql("SELECT pg_reload_conf()")
    yield Secured(server, home)
    server.stop()


async def test_certificates_are_verified_on_both_sides(secured: Secured) -> None:
    """With `verify-full`, the CA's file and a client's certificate in the URL, the schema is made and the store opens;
    the settings take the same URL.
    """
    await schema.upgrade(secured.url())
    store = PostgresStore(load(database={"url": secured.url()}, console={}).dsn or "")
    await store.open()
    query = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert (await store.run(lambda c: c.fetchval(query))).startswith("TLSv1.")
    await store.close()


@pytest.mark.parametrize(
    ("host", "query", "expected"),
    [
        ("localhost", {"sslrootcert": "other.pem"}, "certificate is not trusted .*sslrootcert"),
        ("127.0.0.1", {}, "certificate is for another host name .*write the host as in the certificate"),
        ("localhost", {"sslrootcert": "none.pem"}, "the file that sslrootcert names cannot be read"),
        ("localhost", {"sslcert": "", "sslkey": ""}, "client certificate"),
        ("localhost", {"sslcert": "stranger.pem", "sslkey": "stranger.key"}, "TLS failed|closed|reset|unknown ca"),
        ("localhost", {"sslmode": "disable"}, "no pg_hba.conf entry .*no encryption"),
    ],
)
async def test_a_connection_that_is_not_safe_is_refused(
    secured: Secured, host: str, query: dict[str, str], expected: str
) -> None:
    """A wrong CA, host name or client certificate, and a missing file, are refused with the reason and what to do."""
    url = secured.url(host, **query)
    for refused in (PostgresStore(url).open(), schema.upgrade(url)):
        with pytest.raises(ConfigError, match=expected):
            await refused


async def test_a_server_without_tls_is_refused(plain_server: Server) -> None:
    """`sslmode=require` never falls back to a connection without TLS."""
    with pytest.raises(ConfigError, match="rejected SSL"):
        await PostgresStore(plain_server.url(query="?sslmode=require")).open()
