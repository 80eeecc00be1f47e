"""The OpenAPI document describes the API: schemathesis tries it with a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres"), pytest.mark.timeout(400)]
#: Cases for each operation and phase; the hostile ones among them.
_CASES = os.environ.get("SPANPOST_TEST_API_CASES", "3")


def test_the_document_holds(served: Served, tmp_path: Path) -> None:
    """Every request, allowed or not, gets an answer that the document names, in its shape, and never a 500.

    Three quarters of a minute on an idle machine; SPANPOST_TEST_API_CASES=100 tries harder.
    """
    served.task("documented", agent__task__id="documented")
    served.question("documented-q")
    # A cursor is opaque, and no schema lists time zones: test_looking and test_lists try others. The stream would not
    # end.
    config = (
        '[parameters]\n"query.cursor" = ""\n"query.after" = ""\n"query.zone" = "UTC"\n'
        '[[operations]]\ninclude-path = "/api/events"\n'
        "enabled = false\n"
    )
    (tmp_path / "schemathesis.toml").write_text(config)
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{served.url}/api/openapi.json"),
        *("--header", "Authorization: Bearer spt_theirs", "--max-examples", _CASES, "--seed", "7", "--no-color"),
        *("--phases", "examples,coverage,fuzzing", "--checks", "all", "--request-timeout", "20",
          "--continue-on-failure"),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPANPOST_")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]


def test_the_stream_is_in_the_document(served: Served) -> None:
    """The stream, which schemathesis would wait for, is described with its content type, ids and errors."""
    document = served.as_of("viewer").get("/api/openapi.json").json()
    operation = document["paths"]["/api/events"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {"Last-Event-ID", "after", "status", "task"} <= {one["name"] for one in operation["parameters"]}
    assert {"401", "422", "503"} <= set(operation["responses"])
