"""A PostgreSQL for tests: started once, thrown away after, a fresh database for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.embedded_roles import password_of

#: Speed instead of durability: what is thrown away need not survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}


def system_binaries() -> Path | None:
    """Return the newest ``/usr/lib/postgresql/*/bin`` that has a server (Debian's layout), else None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parent.parent.name))
    return found[-1].parent if found else None


@contextmanager
def throwaway_postgres(*, pg_bin: Path | None = None, durable: bool = False) -> Iterator[str]:
    """Run a server in a directory of its own and give its superuser's DSN; `pg_bin` None takes the embedded
    binaries.

    `durable` keeps PostgreSQL's own settings, for crash tests and benchmarks. The server dies with this
    process.
    """
    home = Path(tempfile.mkdtemp(prefix="spanpost-test-", dir="/tmp" if os.geteuid() == 0 else None))
    home.chmod(0o755 if os.geteuid() == 0 else 0o700)
    server = EmbeddedPostgres(home / "data", pg_bin=pg_bin, options={} if durable else FAST)
    try:
        server.start()
        yield server.superuser_dsn()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def with_database(dsn: str, name: str) -> str:
    """Return the DSN of another database on the same server."""
    before, _, after = dsn.partition("@/")
    _, question, options = after.partition("?")
    return f"{before}@/{name}{question}{options}"


def as_role(dsn: str, role: str) -> str:
    """Return where another role reaches the database of a superuser's DSN of `throwaway_postgres`."""
    superuser, _, rest = dsn.removeprefix("postgresql://").partition("@")
    return f"postgresql://{role}:{password_of(role, superuser.partition(':')[2])}@{rest}"
