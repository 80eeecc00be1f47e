"""Database URLs: which are understood, how others are refused, and that no password is ever shown."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost import app, cli, zero_code
from spanpost.model.errors import ConfigError
from spanpost.settings import load
from spanpost.settings.database_url import NotUnderstood, describe_database, foreign, kind_of, understood

SECRET = "s3cret"
#: Invalid URLs, with the secret in each place where a slip puts it.
MALFORMED = (
    f"postgresql:/u:{SECRET}@h/db",
    f"postgresql:u:{SECRET}@h/db",
    f"postgresql://u:{SECRET}:x@h:{SECRET}/db",
    f"postgresql://u:12/{SECRET}@h/db",
    f"postgresql://u:p#{SECRET}@h/db",
    f"postgresql://u:1?{SECRET}@h/db",
    f"postgresql://u:1?x={SECRET}@h/db",
    f"postgresql://u:{SECRET}@[h/db",
    f"postgresql://u:{SECRET}@h:99999/db",
    f"postgresql://u:{SECRET}@h:5432 /db",
    f"postgresql://u:{SECRET}@h\n/db",
    f"postgresql+psycopg://u:{SECRET}@h:port/db",
    f"postgresql://u:{SECRET}@h/db?sslmode=verify",
    f"postgresql://u:{SECRET}@h,i/db?target_session_attrs=master",
    f"host=h user=u password={SECRET} sslrootcert=system",
    f"host=h user=u password={SECRET} dbname",
    f"host=h user=u password='{SECRET} dbname=x",
    f"host=h pass{SECRET}=x",
    f"host=h password={SECRET} {SECRET}=x",
    f"host=h port={SECRET} dbname=x",
)
FOREIGN = {
    f"mysql://u:{SECRET}@h/db": "a mysql database",
    f"mysql+pymysql://u:{SECRET}@h/db": "a mysql database",
    f"sqlite:///{SECRET}.db": "a sqlite database",
    f"mongodb+srv://u:{SECRET}@h": "a mongodb database",
    f"{SECRET}://u:p@h/db": "no PostgreSQL",
    f"postgresq://u:{SECRET}@h/db": "no PostgreSQL",
    f"//u:{SECRET}@h/db": "no PostgreSQL",
    SECRET: "no PostgreSQL",
}
COMMANDS = (
    ("check",),
    ("run",),
    ("tasks",),
    ("demo",),
    ("db", "query", "SELECT 1"),
    ("db", "upgrade"),
    ("approvals", "list"),
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://u:p@h/db", "postgresql://u:p@h/db"),
        ("POSTGRESQL+asyncpg://u:p@h:5433/db?sslmode=require", "postgresql://u:p@h:5433/db?sslmode=require"),
        ("postgresql+psycopg://u@h/db\n", "postgresql://u@h/db"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:p%40ss@h/db"),
        ("postgresql://u@[::1]:5433,b:1/db", "postgresql://u@[::1]:5433,b:1/db"),
        ("host=h port=1 user=u password='a b\\'c' dbname=x", "postgresql://u:a%20b%27c@/x?host=h&port=1"),
        ("dbname = x host = /run/pg", "postgresql:///x?host=%2Frun%2Fpg"),
    ],
)
def test_what_means_the_same(text: str, url: str) -> None:
    """Other spellings of a PostgreSQL's address, libpq's keywords among them, are one URL."""
    assert understood(text) == url == understood(url)


@given(
    st.text(min_size=1), st.text(min_size=1), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)
)
def test_nothing_is_lost_in_quoting(user: str, password: str, name: str) -> None:
    """Any percent-encoded user and password reach the driver as meant, and the password is not shown."""
    url = understood(
        f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h:1/{name}?a={quote(password)}%20"
    )
    auth, _, hosts = urlsplit(url).netloc.partition("@")  # as asyncpg splits it
    assert [unquote(part) for part in auth.split(":")] == [user, password]
    assert (hosts, dict(parse_qsl(urlsplit(url).query))["a"]) == ("h:1", f"{password} ")
    assert describe_database(url) == f"{user}@h:1/{name}"


@given(st.text())
def test_no_text_is_quoted(text: str) -> None:
    """Any text is understood or refused, and the refusal repeats none of it."""
    for each in (f"postgresql://{text}", f"host={text}", text):
        said = foreign({"DATABASE_URL": each})
        try:
            describe_database(understood(each))
        except NotUnderstood as error:
            said += str(error)
        assert text not in said or len(text) < 4 or text in str(NotUnderstood(kind_of("x:")))


@pytest.mark.parametrize(
    ("command", "texts"),
    [(command, (MALFORMED[0], next(iter(FOREIGN)))) for command in COMMANDS[1:]]
    + [pytest.param(COMMANDS[0], (*MALFORMED, *FOREIGN), marks=pytest.mark.slow)],
    ids=lambda value: " ".join(value) if value in COMMANDS else "",
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "SPANPOST_DATABASE__URL"])
def test_no_command_shows_or_ignores_it(
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command: tuple[str, ...],
    texts: tuple[str, ...],
    variable: str,
) -> None:
    """A malformed address ends each command with exit 2 and the reason, without its password."""
    for text in texts:
        monkeypatch.setenv(variable, text)
        monkeypatch.setattr(sys, "argv", ["spanpost", *command])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        assert (end.value.code, out) == (2, ""), text
        assert "DATABASE" in err or "database.url" in err
        assert "PostgreSQL" in err or "postgresql://" in err
        assert SECRET not in err + caplog.text


@pytest.mark.parametrize("text", MALFORMED)
def test_attach_refuses_a_malformed_address(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A malformed PostgreSQL address in either variable is a `ConfigError` of `attach`, without password."""
    for variable in ("DATABASE_URL", "SPANPOST_DATABASE__URL"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, text)
            with pytest.raises(ConfigError, match="postgresql://user:password@host") as caught:
                app.attach()
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", FOREIGN)
def test_an_application_keeps_its_own_database(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """With a `DATABASE_URL` of another database `attach` continues and logs that no rows are kept."""
    monkeypatch.setenv("DATABASE_URL", text)
    attached = app.attach()
    attached.shutdown()
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(f"DATABASE_URL names {FOREIGN[text]}: ")
    assert "audit rows are not kept; set SPANPOST_DATABASE__URL" in line
    assert SECRET not in caplog.text
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("SPANPOST_DATABASE__URL", text)
    with pytest.raises(ConfigError, match=r"mend SPANPOST_DATABASE__URL") as caught:
        app.attach()
    assert SECRET not in str(caught.value)


def test_a_better_address_wins(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With spanpost's own variable set, `DATABASE_URL` is not read, whatever it contains."""
    monkeypatch.setenv("SPANPOST_DATABASE__URL", "postgres://u@h/db")
    for text in (*MALFORMED, *FOREIGN):
        monkeypatch.setenv("DATABASE_URL", text)
        assert load().dsn == "postgresql://u@h/db"


def test_a_taken_metrics_port_stops_no_agent(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`attach` and zero-code loading go on without the metrics' page, and log which setting to change."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("SPANPOST_METRICS__PORT", str(taken.getsockname()[1]))
        for attach in (app.attach, zero_code.attach):
            caplog.clear()
            attach()
            there = app.current()
            assert not there.is_off
            assert there.metrics_url is None
            there.shutdown()
            assert "Set SPANPOST_METRICS__PORT to a free port" in caplog.text
            assert "stays out" not in caplog.text
