"""`spanpost redact`: what rules change in a span or a recording, with the rule that does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spanpost.cli.program import program

pytestmark = pytest.mark.usefixtures("clean_environment")

RULES = """
[[redaction.rules]]
action = "drop"
attributes = ["user.*", "sess*"]
[[redaction.rules]]
action = "redact"
pattern = "acme[0-9]{1,3}"
"""
SPAN = {
    "name": "log in acme12",
    "attributes": {"user.email": "ann@example.com", "session.id": "s-1", "db.password": "hunter2!!", "n": 1},
    "status_message": "no",
}


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(program, ["redact", *arguments], input=stdin)
    return result.exit_code, result.output + str(result.exception or "")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spanpost.toml").write_text(RULES)
    return tmp_path


def test_each_change_names_its_rule(here):
    """Dropped and redacted texts come with the rule, secrets with the scan, identities with the reason they stay."""
    code, shown = run("-", "--json", stdin=json.dumps(SPAN))
    assert code == 0
    assert [tuple(json.loads(line).values()) for line in shown.splitlines()] == [
        ("span_name", "", "log in acme12", "log in [redacted:rule]", "rule 2: redact acme[0-9]{1,3}"),
        ("span", "user.email", "ann@example.com", "(dropped)", "rule 1: drop user.*, sess*"),
        ("span", "db.password", "hunter2!!", "[redacted:password]", "the built-in scan"),
        ("span", "session.id", "s-1", "s-1", "it identifies something: no rule changes it"),
    ]


def test_a_recording_is_explained_by_a_tenants_rules(here):
    """A recorded body is read like a span; with `--tenant` the rules of the tenant apply, too."""
    recording = next((Path(__file__).parents[1] / "captures").rglob("*.pb"))
    more = '[[redaction.tenants.acme.rules]]\naction = "redact"\nparts = ["span_name", "resource"]\n'
    (here / "spanpost.toml").write_text(RULES + more)
    assert "tenant" not in run(str(recording))[1]
    code, shown = run(str(recording), "--tenant", "acme")
    assert code == 0
    assert "rule 3: redact span_name, resource" in shown
    assert "[redacted:rule]" in shown


def test_a_field_that_a_span_has_not_is_refused(here):
    """The message names the field and those that exist; a missing file is named."""
    code, shown = run("-", stdin='{"nome": "x"}')
    assert (code, "a span has no 'nome'" in shown, "status_message" in shown) == (1, True, True)
    assert "there is no such file" in run("missing.json")[1]
