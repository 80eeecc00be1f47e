"""The command line with a role that owns nothing: what it may do works, and what needs the owner says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spanpost import cli
from spanpost.store.embedded_roles import READER
from spanpost.testing.postgres import as_role
from tests.conftest import WRITER

pytestmark = pytest.mark.acceptance
OWNERS = "Run it with the role that made the tables"
#: What a command asks for, and is not there.
UNKNOWN = "00000000-0000-0000-0000-000000000000"
ABSENT = (UNKNOWN,)
#: Each command that opens the database; whether it needs the owner.
COMMANDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("check",), ""),
    (("tasks",), ""),
    (("spending",), ""),
    (("approvals", "list"), ""),
    (("approvals", "show", UNKNOWN), ""),
    (("deliveries", "list"), ""),
    (("deliveries", "limits"), ""),
    (("deliveries", "reopen", "console"), ""),
    (("deliveries", "retry", "1"), ""),
    (("deliveries", "discard", "1"), ""),
    (("db", "upgrade"), ""),
    (("db", "query", "SELECT count(*) FROM agent_tasks"), ""),
    (("archive", "list"), ""),
    (("archive", "run", "--dry-run"), ""),
    (("archive", "run"), ""),
    (("archive", "allow", "90d"), OWNERS),
    (("db", "grant", "--reader", READER), OWNERS),
    (("db", "end-sessions"), OWNERS),
)


@pytest.mark.parametrize(("command", "needs"), COMMANDS, ids=lambda value: " ".join(value) if value else "")
def test_a_role_that_owns_nothing(
    dsn: str,
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    needs: str,
) -> None:
    """With the rights of a gateway a command works, or it ends with exit 2 and names the role that it needs."""
    monkeypatch.setenv("DATABASE_URL", as_role(dsn, WRITER))
    monkeypatch.setattr(sys, "argv", ["spanpost", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert "permission denied" not in out + err or needs
    assert needs in err
    assert (end.value.code == 2) == bool(needs or command[-1] in ABSENT), err


def test_a_missing_right_is_named(
    dsn: str, clean_environment: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`check` names the right that a role lacks, and how to get it."""
    monkeypatch.setenv("DATABASE_URL", as_role(dsn, READER))
    monkeypatch.setattr(sys, "argv", ["spanpost", "check"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, _ = capfd.readouterr()
    assert end.value.code == 1
    assert "permission denied" in out
    assert "spanpost db grant --writer" in out
