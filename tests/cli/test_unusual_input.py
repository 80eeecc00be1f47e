"""Commands of the database, given what they cannot take: a sentence with exit 2, and nothing done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost import cli
from spanpost.store.embedded_roles import READER
from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.checkpoints import verifier_key
from spanpost.testing.postgres import as_role
from tests.conftest import Database, fresh_database
from tests.store.sealing.sealed import record, seal

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
#: Names that other programs would read as paths.
HOSTILE_TENANTS = ("../../out", "/etc/out", "..", ".", "_", "%5F", "a\\b", "x" * 300)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Lend the command line with a database: exit code, stdout, stderr."""

    def run(dsn: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("DATABASE_URL", dsn)
        monkeypatch.setattr(sys, "argv", ["spanpost", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run


async def _sealed(dsn: str) -> None:
    store = PostgresStore(dsn)
    await store.open()
    for tenant in ("default", *HOSTILE_TENANTS):
        await record(store, tenant, 6)
    await store.close()
    connection = await asyncpg.connect(dsn)
    await seal(connection, KEY)
    await connection.close()


#: What is given, and words of the answer.
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "checkpoints of a tenant without a log": (("audit", "checkpoints", "--tenant", "nosuch"), "has no sealed log"),
    "a checkpoint that is none": (("audit", "consistency", "6", "note"), "is no checkpoint"),
    "a checkpoint beyond all numbers": (("audit", "consistency", "6", "9" * 18), "has no checkpoint of"),
    "an empty task": (("erase", "--tenant", "default", "--task", "", "--yes", "--reason", "r"), "--task is empty"),
    "an empty tenant": (("erase", "--task", "a", "--tenant", " ", "--yes", "--reason", "r"), "--tenant is empty"),
    "a time before the calendar": (("erase", "--from", "0001-01-01T00:00:00+23:59"), "not a time"),
    "a time after the calendar": (("erase", "--to", "9999-12-31T23:59:59-23:59"), "not a time"),
    "a list since after the calendar": (("tasks", "--since", "9999-12-31T23:59:59-23:59"), "--since 9999"),
    "a token without a name": (("token", "new", "--name", ""), "--name: write 1 to 200"),
    "a tenant that no screen shows": (("token", "new", "--tenant", "a\x1b[2J"), "--tenant: write 1 to 200"),
    "half a character": (("token", "revoke", "\udcff"), "argument 3 is not UTF-8"),
}


@pytest.fixture(scope="module")
def sealed(server: str) -> Iterator[str]:
    """DSN of a database with a sealed log."""
    with fresh_database(server) as dsn:
        asyncio.run(_sealed(dsn))
        yield dsn


def _rows(dsn: str) -> list[tuple[int, ...]]:
    tables = ("audit_rows", "agent_tasks", "erasures", "seal_checkpoints")
    return Database(dsn).fetch("SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str, sealed: str, run: Run) -> None:
    """The command says what is wrong in one line, with exit 2, and changes no row."""
    Path("note").write_text("here/default\n6\nnot base64\n\nsigned")
    before = _rows(sealed)
    given, words = REFUSED[case]
    code, out, err = run(sealed, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert _rows(sealed) == before


def test_a_tenants_name_leads_to_no_other_directory(sealed: str, run: Run) -> None:
    """Each log is exported into a directory of its own below the named one, whatever its tenant's name."""
    Path("outer").mkdir()
    code, out, err = run(sealed, "audit", "export", "outer/log")
    assert (code, err, out.count("6 leaves") + out.count("7 leaves")) == (0, "", 1 + len(HOSTILE_TENANTS))
    own = {path.parent for path in Path("outer").rglob("checkpoint")}
    assert len(own) == 1 + len(HOSTILE_TENANTS)
    assert {path.parent for path in own} == {Path("outer/log")}
    assert list(Path().parent.glob("out*")) == [Path("outer")]


@pytest.mark.parametrize("text", ["[]", "{}", "null", "[1]", "", '"proof"', "[" * 100_000])
def test_what_is_no_proof_proves_nothing(text: str, run: Run) -> None:
    """A file without a proof is refused: an empty list shows nothing, and nothing is no success."""
    Path("proof").write_text(text)
    key = verifier_key("here/default", KEY.public_key().public_bytes_raw())
    code, out, err = run("postgresql://nobody@127.0.0.1:1/none", "audit", "check-proof", "proof", "--key", key)
    assert (code, out) == (2, "")
    assert err == "spanpost: proof: this is no proof\n"


def test_a_log_that_is_not_signed_yet_says_so(dsn: str, run: Run) -> None:
    """Without a checkpoint the command prints none, and says why."""
    asyncio.run(_unsigned(dsn))
    assert run(dsn, "audit", "checkpoints") == (
        0,
        "",
        "the log is not signed yet: `spanpost check` says whether a gateway seals\n",
    )


async def _unsigned(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO seal_logs (tenant, origin, size) VALUES ('default', 'here/default', 0)")
    await connection.close()


@pytest.mark.parametrize("command", [("audit", "verify"), ("token", "list")])
def test_a_role_without_the_rights_is_named(command: tuple[str, ...], sealed: str, run: Run) -> None:
    """A reader's role gets the database's refusal and the role to use; the database is not called unreachable."""
    code, out, err = run(as_role(sealed, READER), *command)
    assert (code, out) == (2, "")
    assert err.startswith("spanpost: the database refuses: permission denied for ")
    assert "role" in err.partition(". ")[2]


def test_an_error_steers_no_terminal(run: Run) -> None:
    """What was typed is quoted without control characters, and not at any length."""
    for typed in ("\x1b[31m\x9b\u202e", "a" * 100_000):
        code, out, err = run("postgresql://nobody@127.0.0.1:1/none", "archive", "allow", typed)
        assert (code, out) == (2, "")
        assert len(err) < 5_000
        assert set(err) & {"\x1b", "\x9b", "\u202e"} == set()
