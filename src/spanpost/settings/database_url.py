"""Address of a PostgreSQL: how it is read, and how it is shown.

An address may hold a password, and a badly written one may hold it anywhere. So nothing here quotes its
input: an error says what is wrong and how to write it, and `describe_database` shows host, port, database
and user of an address that was understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_POSTGRES: Final = re.compile(r"^postgres(ql)?(\+\w+)?:", re.IGNORECASE)
_SCHEME: Final = re.compile(r"^([a-z][a-z0-9]*)(\+[a-z0-9_.-]+)?:", re.IGNORECASE)
_KEYWORD: Final = re.compile(r"^\s*([a-z_]+)\s*=", re.IGNORECASE)
#: One `key=value` of libpq, the value bare or in single quotes with backslashes.
_PAIR: Final = re.compile(
    r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.IGNORECASE | re.DOTALL
)
_HOST: Final = re.compile(r"^(\[[0-9a-f:.%]+\]|[^\s:\[\]]*)(?::([0-9]{1,5}))?$", re.IGNORECASE)
#: Keywords that libpq and asyncpg both know; and those of them that have a place of their own in a URL.
_KEYWORDS: Final = frozenset(
    {
        "host", "port", "dbname", "user", "password", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl",
        "sslpassword", "sslnegotiation", "passfile", "service", "target_session_attrs", "application_name",
        "krbsrvname", "gsslib",
    }
)  # fmt: skip
#: Values of parameters that are wrong more often than right. The driver does not know libpq's `system`.
_VALUES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
}
_IN_URL: Final = ("user", "password", "dbname")
#: Schemes of other databases. An unknown scheme is not repeated in messages: it may be part of a secret.
_OTHERS: Final = frozenset(
    {
        "sqlite", "sqlite3", "mysql", "mysql2", "mariadb", "mssql", "sqlserver", "oracle", "mongodb", "redis", "rediss",
        "cockroachdb", "duckdb", "snowflake", "redshift", "bigquery", "clickhouse", "libsql", "firebird", "db2",
        "jdbc", "file",
    }
)  # fmt: skip
_HOW: Final = (
    "write it as postgresql://user:password@host:5432/name, special characters in percent-encoding (@ is %40, / is %2F)"
)


class NotUnderstood(ValueError):
    """Text that is not the address of a PostgreSQL. The message quotes nothing of it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; {_HOW}")


def is_postgres(text: str) -> bool:
    """Return whether a text is meant as the address of a PostgreSQL, correctly written or not."""
    keyword = _KEYWORD.match(text)
    return bool(_POSTGRES.match(text.strip())) or (keyword is not None and keyword[1].lower() in _KEYWORDS)


def kind_of(text: str) -> str:
    """Return the kind of database that another address names: `a mysql database`."""
    scheme = _SCHEME.match(text.strip())
    return f"a {scheme[1].lower()} database" if scheme is not None and scheme[1].lower() in _OTHERS else "no PostgreSQL"


def understood(text: str) -> str:
    """Return the address as a `postgresql://` URL for the driver. Raises `NotUnderstood`."""
    text = text.strip()
    if not is_postgres(text):
        raise NotUnderstood(f"it names {kind_of(text)}, and spanpost keeps its rows in PostgreSQL")
    if not text.isprintable():
        raise NotUnderstood("it has a line break or another character that is not printable")
    return _of_url(text) if _POSTGRES.match(text) else _of_keywords(text)


def describe_database(url: str) -> str:
    """Return the parts of an address that may be shown: user, host, port and database."""
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    auth, _, hosts = parts.netloc.rpartition("@")
    user = unquote(auth.partition(":")[0]) or asked.get("user", "")
    host = unquote(hosts) or ":".join(filter(None, (asked.get("host", ""), asked.get("port", ""))))
    name = unquote(parts.path.removeprefix("/")) or asked.get("dbname", "")
    return f"{f'{user}@' if user else ''}{host or 'this machine'}{f'/{name}' if name else ''}"


def server_of(url: str) -> tuple[str, ...]:
    """Return an understood address without its user, password and certificates: the servers and the database."""
    parts = urlsplit(url)
    login = ("user", "password", "passfile", "sslcert", "sslkey", "sslpassword")
    asked = sorted((name, value) for name, value in parse_qsl(parts.query) if name not in login)
    return parts.netloc.rpartition("@")[2], parts.path, urlencode(asked)


def _of_url(text: str) -> str:
    if not text.partition(":")[2].startswith("//"):
        raise NotUnderstood("after the scheme there must be two slashes")
    if " " in text:
        raise NotUnderstood("it has a blank")
    try:
        parts = urlsplit(text)
        asked = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        raise NotUnderstood("its host or the part after the question mark cannot be read") from None
    if parts.fragment or "#" in text:
        raise NotUnderstood("it has a #")
    if "@" in parts.path or "@" in parts.query or "/" in parts.path.removeprefix("/"):
        raise NotUnderstood("the name of the database has a / or is followed by an @")
    _refuse_bad_values(dict(asked))
    auth, _, hosts = parts.netloc.rpartition("@")
    _refuse_bad_hosts(hosts)
    user, _, password = auth.partition(":")
    # Quote each part again: then every reader finds the same password in "p@ss", not only a lenient one.
    login = quote(unquote(user), safe="") + (f":{quote(unquote(password), safe='')}" if password else "")
    return f"postgresql://{f'{login}@' if login else ''}{hosts}{parts.path}{f'?{urlencode(asked)}' if asked else ''}"


def _of_keywords(text: str) -> str:
    said = dict(_pairs(text))
    _refuse_bad_values(said)
    for host in said.get("port", "").split(","):
        _refuse_bad_hosts(f"h:{host}" if host else "h")
    login = quote(said.get("user", ""), safe="")
    if said.get("password"):
        login += f":{quote(said['password'], safe='')}"
    rest = urlencode({key: value for key, value in said.items() if key not in _IN_URL and value})
    name = quote(said.get("dbname", ""), safe="")
    return f"postgresql://{f'{login}@' if login else ''}/{name}{f'?{rest}' if rest else ''}"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text.rstrip()):
        found = _PAIR.match(text, at)
        if found is None:
            raise NotUnderstood(
                "it is no list of key=value, separated by blanks (a value with a blank needs single quotes)"
            )
        key = found[1].lower()
        if key not in _KEYWORDS:
            raise NotUnderstood(f"it has a key that is none of {', '.join(sorted(_KEYWORDS))}")
        yield key, re.sub(r"\\(.)", r"\1", found[2] if found[2] is not None else found[3])
        at = found.end()


def _refuse_bad_values(asked: Mapping[str, str]) -> None:
    for name, values in _VALUES.items():
        if asked.get(name, values[0]) not in values:
            raise NotUnderstood(f"its {name} is none of {', '.join(values)}")
    if asked.get("sslrootcert") == "system":
        raise NotUnderstood("its sslrootcert is no file (such as /etc/ssl/certs/ca-certificates.crt)")


def _refuse_bad_hosts(hosts: str) -> None:
    for one in hosts.split(","):
        found = _HOST.match(one)
        if found is None:
            raise NotUnderstood("its host or its port cannot be read")
        if found[2] is not None and int(found[2]) > 65_535:
            raise NotUnderstood("its port is beyond 65535")


def foreign(environment: Mapping[str, str]) -> str:
    """Return the kind of database that `DATABASE_URL` names if it is not a PostgreSQL, in words; empty
    otherwise.
    """
    text = environment.get("DATABASE_URL", "").strip()
    return kind_of(text) if text and not is_postgres(text) else ""
