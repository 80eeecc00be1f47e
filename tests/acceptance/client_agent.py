"""An agent in another language, driven by the test: a line of JSON for each command and each result."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.conftest import find

LANGUAGES = ("typescript", "go")


def command_of(language: str) -> list[str]:
    """Return the command of a language's test agent."""
    built = Path(find("clients"))
    return {
        "typescript": [find("node"), str(built / "typescript" / "test" / "driver.mjs")],
        "go": [str(built / "go-agent")],
    }[language]


class ClientAgent:
    """A running test agent; its commands run at once."""

    def __init__(self, language: str, url: str, token: str, directory: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
        environment = {
            "SPANPOST_CONTROL__ENDPOINT": url,
            "SPANPOST_CONTROL__TOKEN": token,
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}",
        }
        self.log = directory / f"{language}.log"
        self._results: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            command_of(language),
            env=kept | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._results[said.pop("n")].put(said)

    def begin(self, what: str, **given: Any) -> int:
        """Start a command; return its number."""
        number = next(self._numbers)
        self._results[number] = queue.SimpleQueue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"n": number, "do": what, **given}) + "\n")
        self._process.stdin.flush()
        return number

    def result(self, number: int, timeout: float = 60) -> dict[str, Any]:
        """Wait for the next result of a command."""
        return self._results[number].get(timeout=timeout)

    def has_result(self, number: int) -> bool:
        """Tell whether a result has come."""
        return not self._results[number].empty()

    def end(self) -> None:
        """Let all commands finish and the telemetry be sent; kill it otherwise."""
        try:
            self._process.communicate(timeout=60)
        finally:
            self._process.kill()
