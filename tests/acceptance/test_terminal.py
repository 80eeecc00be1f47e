"""`spanpost run` in a terminal: the board's address is printed there, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, fresh_database

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


def run(dsn: str, home: Path, stderr: int) -> subprocess.Popen[bytes]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SPANPOST_", "OTEL_")) and n != "DATABASE_URL"}
    own = {
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(home),
        "DATABASE_URL": dsn,
        "SPANPOST_DATABASE__DATA_DIR": str(home / "data"),
    }
    command = [sys.executable, "-m", "spanpost", "run", "--metrics-port", "0", "--http-port", "0", "--grpc-port", "-1"]
    return subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, stderr=stderr, env=kept | own)


def read_until(reader: int, pattern: str) -> str:
    """Read until something matches."""
    text = ""
    while not re.search(pattern, text):
        text += os.read(reader, 4096).decode()
    return text


def test_a_person_is_given_the_address(server: str, tmp_path: Path) -> None:
    """A terminal shows an address that opens the API; a log, which is kept, only how to get it."""
    with fresh_database(server) as dsn:
        reader, writer = pty.openpty()
        with run(dsn, tmp_path, writer) as process:
            os.close(writer)
            said = read_until(reader, r"open the board: \S+\s")
            found = re.search(r"open the board: (\S+)/#token=(\S+)", said)
            assert found is not None
            me = httpx.get(f"{found[1]}/api/me", headers={"authorization": f"Bearer {found[2]}"})
            assert me.json()["name"] == "this machine"
            process.send_signal(signal.SIGTERM)
        os.close(reader)
        reader, writer = os.pipe()
        with run(dsn, tmp_path, writer) as process:
            os.close(writer)
            said = read_until(reader, "stop with Ctrl-C")
            process.send_signal(signal.SIGTERM)
            with os.fdopen(reader) as rest:
                said += rest.read()
        assert "spanpost token local" in said
        assert found[2] not in said
