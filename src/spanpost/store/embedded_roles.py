"""Roles of the embedded PostgreSQL and their URLs.

The superuser only makes the roles and the database when the server starts. `USER` owns the database and
nothing else; `READER` reads what it is granted. The superuser's password is the secret in the server's
directory; the passwords of the others are derived from it, so the URL of a role reveals no other role's
password.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

USER: Final = "spanpost"
DATABASE: Final = "spanpost"
#: Only reads: `spanpost db query`.
READER: Final = "spanpost_reader"
SUPERUSER: Final = "postgres"


def address(role: str, secret: str, socket_dir: Path | None, database: str = DATABASE) -> str:
    """Return the URL of a database for a role (a secret: it holds the password)."""
    password = quote(secret) if role == SUPERUSER else password_of(role, secret)
    return f"postgresql://{role}:{password}@/{database}?host={quote(str(socket_dir), safe='')}&port=5432"


def password_of(role: str, secret: str) -> str:
    """Return the password of a role that is not the superuser."""
    return hmac.digest(secret.encode(), role.encode(), "sha256").hex()


async def make(connection: Any, secret: str) -> None:
    """Make the roles and the database that do not exist yet, as the superuser."""
    for role in (USER, READER):
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password_of(role, secret)}'")
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
    await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")


async def close_to_others(connection: Any) -> None:
    """Let only our roles connect, and only the owner create objects (before PostgreSQL 15 all roles may)."""
    await connection.execute(
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC; GRANT CONNECT ON DATABASE {DATABASE} TO {READER};"
        f" REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO {USER}"
    )
    for statement in closing(DATABASE, USER):
        await connection.execute(statement)


def closing(database: str, *roles: str) -> list[str]:
    """Return the SQL, for a superuser, that leaves advisory locks and temporary tables to `roles` alone, and large
    objects to none.

    PostgreSQL lets every role use them: to block recording, and to fill the disk.
    """
    to = ", ".join(roles)
    return [
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        f"GRANT TEMPORARY ON DATABASE {database} TO {to}",
        f"""DO $$
DECLARE
  one regprocedure;
BEGIN
  FOR one IN SELECT oid FROM pg_proc WHERE proname ~ '^(pg_(try_)?advisory_|lo_|lowrite|loread)' LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one);
    IF one::text ~ 'advisory' THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {to}', one);
    END IF;
  END LOOP;
END $$""",
    ]
