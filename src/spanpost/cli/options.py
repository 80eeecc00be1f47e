"""Common parts of the commands: options, the settings made from them, and output."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from spanpost.model.errors import ConfigError
from spanpost.semconv import STATUSES

if TYPE_CHECKING:
    from uuid import UUID

    from spanpost.model.acts import ContentKind
    from spanpost.settings import Settings
    from spanpost.store.protocols import Store

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Ascii = Annotated[
    bool, typer.Option("--ascii", help="Write words instead of signs, for terminals that misalign or lack signs.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL to use. DATABASE_URL is read too. Without either: the embedded one. [env var: "
        "SPANPOST_DATABASE__URL]",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Directory of the embedded PostgreSQL. [env var: SPANPOST_DATABASE__DATA_DIR]"
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port of the metrics, 0 for a free one. [env var: SPANPOST_METRICS__PORT]",
    ),
]


def settings_of(
    database_url: str | None = None,
    data_dir: Path | None = None,
    metrics_port: int | None = None,
    *,
    serve_metrics: bool = False,
    gateway: dict[str, Any] | None = None,
    consume: bool = False,
) -> Settings:
    """Return the settings; the command line uses the embedded database if no other is set.

    Raises `ConfigError` if `DATABASE_URL` names a database that is not a PostgreSQL and no other setting
    decides.
    """
    from spanpost import settings
    from spanpost.cli import logs

    other = settings.foreign_database() if data_dir is None else ""
    database: dict[str, Any] = {} if other else {"embedded": True}
    if database_url is not None:
        database["url"] = database_url
    if data_dir is not None:
        database["data_dir"] = data_dir
    overrides: dict[str, Any] = {"database": database}
    if metrics_port is not None:
        overrides["metrics"] = {"port": metrics_port}
    elif serve_metrics:
        overrides["metrics"] = {}
    if gateway is not None:
        overrides["gateway"] = gateway
    if consume:
        overrides["kafka"] = {"consume": True}
    loaded = settings.load(**overrides)
    if other and not loaded.has_database and loaded.forward is None:
        raise ConfigError(
            f"DATABASE_URL names {other}, and spanpost keeps its rows in PostgreSQL; set "
            "SPANPOST_DATABASE__URL to one, "
            "or SPANPOST_DATABASE__EMBEDDED=true for the embedded PostgreSQL"
        )
    logs.configure(loaded.log, quiet=gateway is None)
    return loaded


def refuse_unknown(statuses: Iterable[str] | None) -> None:
    """Raise `ConfigError` for a word of `--status` that is no status."""
    for one in statuses or ():
        if one not in STATUSES:
            raise ConfigError(f"--status {one}: there is no such status; use one of {', '.join(STATUSES)}")


def time_at(text: str, *, is_local: bool = False) -> datetime:
    """Return a time in UTC; without a zone it is in UTC, or local. Raises `ValueError`."""
    at = datetime.fromisoformat(text)
    try:
        return (at if at.tzinfo is not None or is_local else at.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:  # at the calendar's edge a zone leads out of it
        raise ValueError("out of the calendar") from None


def ask(settings: Settings, question: Callable[[Store], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with opened(settings) as store:
            return await question(store)

    return asyncio.run(ask())


def noted(settings: Settings, what: str, detail: str, question: Callable[[Store], Awaitable[T]]) -> T:
    """Change the database, and record the operation with the system's user."""
    from spanpost.store.operations import operation

    async def work(store: Store) -> T:
        async with operation(store.acts.note_operation, what, detail) as outcome:
            answer = await question(store)
            outcome.said = str(answer) if isinstance(answer, int) else ""
        return answer

    return ask(settings, work)


def note_read(
    settings: Settings, kind: ContentKind, *, tenant: str = "", tasks: Iterable[UUID] = (), detail: str = ""
) -> None:
    """Log that the system's user is about to read content in the database, where `interactions.log_reads` is set.

    `tasks`: none where it is of no single task. What cannot be logged is not shown.
    """
    if settings.interactions is not None and settings.interactions.log_reads:
        ask(settings, lambda store: read_noted(store, settings, kind, tenant=tenant, tasks=tasks, detail=detail))


async def read_noted(
    store: Store, settings: Settings, kind: ContentKind, *, tenant: str, tasks: Iterable[UUID], detail: str = ""
) -> None:
    """Log a read as `note_read` does, with an open store."""
    if settings.interactions is None or not settings.interactions.log_reads:
        return
    from spanpost.interactions.read_log import ReadLog
    from spanpost.model.acts import CLI, NO_TASK, SYSTEM_USER
    from spanpost.model.interventions import Actor
    from spanpost.store.system_user import system_user

    by = Actor(provider=CLI, id=system_user(), credential=SYSTEM_USER)
    await ReadLog(store.acts, is_on=True).note(by, kind, tenant, tuple(tasks) or (NO_TASK,), detail)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """Yield the open store of the settings."""
    from spanpost.runtime import assembly

    store = assembly.open_store(settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def say_count(what: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        print(f"{what}: {count}")


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII: some other characters are control sequences of terminals."""
    print(json.dumps(value, ensure_ascii=True, indent=2, default=_plain))


def _plain(value: object) -> object:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)
