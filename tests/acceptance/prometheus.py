"""A Prometheus with a given past, and a target."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from tests.conftest import find
from tests.eventually import eventually, free_port


def lines_of(registry: CollectorRegistry, at: float, labels: dict[str, str]) -> Iterator[str]:
    """Return all samples as of a time, in the form for `promtool tsdb create-blocks-from openmetrics`."""
    for metric in registry.collect():
        for sample in metric.samples:
            said = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in {**sample.labels, **labels}.items())
            yield f"{sample.name}{{{said}}} {sample.value} {at}"


class Prometheus:
    """The server's answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer; raises AssertionError with Prometheus' words."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters.get('query')}: {error.read().decode()}") from None

    def instant(self, query: str) -> list[Any]:
        found: list[Any] = self.get("query", query=query)["result"]
        return found

    def value(self, query: str) -> float | None:
        """Return the one value of a query."""
        found = self.instant(query)
        return float(found[0]["value"][1]) if found else None

    def until(self, query: str, expected: float) -> None:
        """Wait until a query has that value."""

        def is_so(value: float | None) -> bool:
            return value is not None and abs(value - expected) <= 1e-6 * max(1.0, abs(expected))

        eventually(lambda: self.value(query), is_so)


@contextmanager
def run_prometheus(
    directory: Path,
    target: str,
    past: Iterable[str],
    rules: Path | None = None,
    alertmanager: str = "",
    every: str = "1s",
) -> Iterator[Prometheus]:
    """Run a Prometheus with these past samples; it scrapes `target` and evaluates the rules at that
    interval.
    """
    data, port = directory / "tsdb", free_port()
    data.mkdir()
    written = directory / "past.om"
    if samples := list(past):
        written.write_text("\n".join([*samples, "# EOF", ""]))
        make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", written, data]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    config = directory / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": every, "evaluation_interval": every},
                "rule_files": [str(rules)] if rules is not None else [],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
                if alertmanager
                else {},
                "scrape_configs": [{"job_name": "spanpost", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        "--storage.tsdb.retention.time=30d",
    ]  # fmt: skip
    server = Prometheus(port)
    with _running(command, f"{server.url}/-/ready", directory / "prometheus.log"):
        yield server


@contextmanager
def run_alertmanager(directory: Path, config: str, port: int = 0) -> Iterator[str]:
    """Run an Alertmanager with that configuration; yield its host and port."""
    written, port = directory / "alertmanager.yml", port or free_port()
    written.write_text(config)
    command = [
        find("alertmanager"), f"--config.file={written}", f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with _running(command, f"http://127.0.0.1:{port}/-/ready", directory / "alertmanager.log"):
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def is_ready() -> bool:  # it opens its port, and then replays
        assert process.poll() is None, log.read_text()[-2000:]
        with suppress(OSError), urllib.request.urlopen(ready, timeout=5):
            return True
        return False

    try:
        eventually(is_ready)
        yield
    finally:
        process.terminate()
        process.wait(60)
