"""Gateways as processes of their own, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import ROOT
from tests.eventually import eventually, free_port

#: A killed gateway's deliveries are taken over after ten seconds instead of a minute.
SOON_TAKEN_OVER = {"SPANPOST_NOTIFICATIONS__DELIVERY_TIMEOUT": "5"}


class Gateway:
    """`spanpost run` on ports of its own. `command` is another `spanpost` than that of this checkout."""

    def __init__(
        self,
        dsn: str,
        directory: Path,
        *,
        http: int = 0,
        grpc: int = 0,
        command: Sequence[str] = (),
        **environment: str,
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
        self._command = command or (sys.executable, "-c", "from spanpost.cli import main; main()")
        self._environment = {
            **kept,
            **({} if command else {"PYTHONPATH": str(ROOT / "src")}),
            "DATABASE_URL": dsn,
            "SPANPOST_METRICS__PORT": "0",
            "SPANPOST_DATABASE__DATA_DIR": str(directory / "data"),
            **SOON_TAKEN_OVER,
        }
        self._directory = directory
        self.http, self.grpc = http or free_port(), grpc or free_port()
        self._log = directory / f"gateway-{self.http}.log"
        ports = {"SPANPOST_GATEWAY__HTTP_PORT": str(self.http), "SPANPOST_GATEWAY__GRPC_PORT": str(self.grpc)}
        self._environment |= ports | environment
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start, and wait until it is ready."""
        with self._log.open("ab") as log:
            command = [*self._command, "run"]
            self.process = subprocess.Popen(command, env=self._environment, cwd=self._directory, stdout=log, stderr=log)

        def is_ready() -> bool:
            assert self.process.poll() is None, f"it ended: {self.log}"
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health/ready", timeout=5):
                return True
            return False

        eventually(is_ready)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop in order; return the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(60)


@contextmanager
def run_gateway(
    dsn: str, directory: Path, *, http: int = 0, command: Sequence[str] = (), **environment: str
) -> Iterator[Gateway]:
    """Run a gateway on that database until the end of the block."""
    gateway = Gateway(dsn, directory, http=http, command=command, **environment)
    try:
        yield gateway
    finally:
        gateway.stop()
