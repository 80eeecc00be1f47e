"""`/health/ready` while PostgreSQL takes no writes: read-only, without connections, on a disk that is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.sql.schema import upgrade
from tests.acceptance.gateway_process import Gateway, Start, query
from tests.acceptance.test_gateway import Stream, body
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]

#: Bytes of the disk: a new cluster takes a third of it.
DISK = 224 * 1024 * 1024
#: Number of the span of `refusal`, greater than those of any stream.
LAST = 10_000_000


def is_ready(gateway: Gateway) -> bool:
    return gateway.get("/health/ready")[0] == 200


def until_not_ready(gateway: Gateway, reason: str, limit: float = 30) -> None:
    """Wait until the gateway says for which reason it is not ready; it stays alive."""
    eventually(lambda: gateway.get("/health/ready"), lambda page: page[0] == 503 and reason in page[1].decode(), limit)
    assert gateway.get("/health/live")[0] == 200


def refusal(gateway: Gateway) -> tuple[int, str]:
    """Return status and `Retry-After` of a request with telemetry."""
    asked = urllib.request.Request(
        f"{gateway.http}/v1/traces", body(LAST, 1), {"content-type": "application/x-protobuf"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("retry-after", "")


@pytest.mark.proves("never-500", "failover")
@pytest.mark.parametrize(
    ("shut", "opened", "reason"),
    [
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only", "is read-only"),
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1", "has no free connection"),
    ],
)
def test_an_idle_gateway_notices_that_nothing_can_be_written(
    start: Start, dsn: str, server: str, shut: str, opened: str, reason: str
) -> None:
    """Without any traffic the probe turns, with the reason; telemetry gets 503 and a time; and it turns back."""
    from spanpost.store.embedded_roles import USER
    from spanpost.testing.postgres import as_role

    gateway = start(DATABASE_URL=as_role(dsn, USER)).ready()
    name = dsn.partition("@/")[2].partition("?")[0]
    eventually(lambda: is_ready(gateway))
    query(
        server,
        f"ALTER DATABASE {name} {shut}",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    until_not_ready(gateway, reason)
    status, retry_after = refusal(gateway)
    assert status == 503
    assert int(retry_after) >= 1
    query(
        server,
        f"ALTER DATABASE {name} {opened}",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    eventually(lambda: is_ready(gateway))
    assert refusal(gateway)[0] == 200
    assert gateway.rows("SELECT count(*) FROM pg_class WHERE relname = 'spanpost_write_probe'") == [(0,)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk; a test that cannot is skipped, and fails in CI."""
    why = ""
    if sys.platform != "linux" or os.geteuid() != 0:
        why = "a small disk is mounted by root on Linux"
    else:
        path = Path(f"/tmp/spanpost-test-disk-{os.getpid()}")
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "none", path],
            capture_output=True,
            text=True,
            check=False,
        )
        why = done.stderr
    if why and os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    if why:
        pytest.skip(why)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)
    path.rmdir()


def fill(disk: Path) -> Path:
    """Fill the disk to its last block; return the file that does."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return path


@pytest.mark.proves("answered", "database-disk-full")
def test_a_full_disk_turns_the_probe_and_loses_nothing(disk: Path, tmp_path: Path) -> None:
    """On a disk that fills up under load, twice, the probe turns and turns back; acknowledged spans are rows."""
    postgres = EmbeddedPostgres(disk / "data", options={"min_wal_size": "32MB", "max_wal_size": "48MB"})
    dsn = postgres.start()
    gateway = None
    try:
        asyncio.run(upgrade(dsn))
        gateway = Gateway(dsn, tmp_path).ready()
        eventually(lambda: is_ready(gateway))
        # Without traffic the probe would turn only when it writes something by itself, after half a minute.
        stream = Stream(bodies=LAST // 10, size=10)
        stream.begin(gateway.http)
        for _ in range(2):
            filler = fill(disk)
            until_not_ready(gateway, "database")
            assert refusal(gateway)[0] == 503
            for _ in range(3):  # it does not flap: the disk is as full as before
                time.sleep(1.1)  # the interval of the checks
                assert not is_ready(gateway)
            filler.unlink()
            eventually(lambda: is_ready(gateway))
        stream.end()
        assert stream.statuses <= {200, 503}
        eventually(lambda: refusal(gateway)[0] == 200)
        assert gateway.recorded == [*stream.numbers, LAST]
    finally:
        if gateway is not None:
            gateway.kill()
        postgres.stop()
