"""Results of the tests that prove a promise: `pytest --record-proofs` keeps them in `tests/proofs.json`.

A test is marked ``proves(promise, *faults and bad inputs)`` with names of `tests/promises.toml`; the page
`docs/reference/guarantees.md` is made of both files. One case is a test, an example of Hypothesis, or a seed of
`tests.thorough.by_seeds`; a test may say by ``record_property("size", ...)`` how much it did.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).with_name("proofs.json")


class Recorder:
    """Plugin that collects the results of marked tests, from the workers of a run too, and adds them to `RESULTS`."""

    def __init__(self, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._results: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.get_closest_marker("proves"):
            item.user_properties.append(("proves", True))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        test = getattr(item, "obj", None)
        of_hypothesis = getattr(test, "hypothesis", None)
        count = getattr(test, "cases", 1)
        if of_hypothesis is None:
            yield
        else:
            tried, count = of_hypothesis.inner_test, 0

            @functools.wraps(tried)
            def counted(*args: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                return tried(*args, **more)

            of_hypothesis.inner_test = counted
            try:
                yield
            finally:
                of_hypothesis.inner_test = tried
        item.user_properties.append(("cases", count))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        known = dict(report.user_properties)
        if self._is_worker or "proves" not in known or (report.when != "call" and not report.failed):
            return
        path, *_, function = report.nodeid.partition("[")[0].removeprefix("tests/").split("::")
        name = f"{path}::{function}"
        found = self._results.setdefault(name, {"passed": 0, "failed": 0, "cases": 0, "seconds": 0.0})
        found["passed" if report.passed else "failed"] += not report.skipped
        found["cases"] += known.get("cases", 0) if report.passed else 0
        found["seconds"] = round(found["seconds"] + report.duration, 1)
        if "size" in known:
            found["size"] = str(known["size"])

    def pytest_sessionfinish(self) -> None:
        if self._is_worker:
            return
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        for name, found in self._results.items():
            if found["passed"] or found["failed"]:
                results[name] = {**found, "on": today}
        lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(results.items())]
        RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
