"""Gateways as processes of their own, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Gateway:
    """`spanpost run` on ports of its own."""

    def __init__(self, dsn: str, directory: Path, *, http: int = 0, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
        self._environment = {
            **kept,
            "PYTHONPATH": str(ROOT / "src"),
            "DATABASE_URL": dsn,
            "SPANPOST_METRICS__PORT": "0",
            "SPANPOST_DATABASE__DATA_DIR": str(directory / "data"),
        }
        self._directory = directory
        for left in reversed(range(5)):
            self.http, self.grpc = http or free_port(), free_port()
            self._log = directory / f"gateway-{self.http}.log"
            ports = {"SPANPOST_GATEWAY__HTTP_PORT": str(self.http), "SPANPOST_GATEWAY__GRPC_PORT": str(self.grpc)}
            self._environment |= ports | environment
            try:
                self.start()
                break
            except AssertionError:  # another took a port that was free a moment ago
                if left == 0 or http or "cannot listen" not in self.log:
                    raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start, and wait until it is ready."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", "from spanpost.cli import main; main()", "run"]
            self.process = subprocess.Popen(command, env=self._environment, cwd=self._directory, stdout=log, stderr=log)
        for _ in range(1500):
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.log}")
            try:
                urllib.request.urlopen(f"{self.url}/health/ready", timeout=2)
                return
            except OSError:
                time.sleep(0.02)  # it is not there yet, and says nothing before it is
        raise AssertionError(f"not ready: {self.log}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop in order; return the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


@contextmanager
def run_gateway(dsn: str, directory: Path, *, http: int = 0, **environment: str) -> Iterator[Gateway]:
    """Run a gateway on that database until the end of the block."""
    gateway = Gateway(dsn, directory, http=http, **environment)
    try:
        yield gateway
    finally:
        gateway.stop()
