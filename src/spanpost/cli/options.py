"""What commands have in common: options, the settings they make, and how answers are printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from spanpost.ledger.base import Ledger
    from spanpost.settings import Settings

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL to use; DATABASE_URL is read too; the embedded one without any. [env var: SPANPOST_DATABASE__URL]",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded PostgreSQL. [env var: SPANPOST_DATABASE__DATA_DIR]"),
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
) -> Settings:
    """Read the settings; the command line uses the embedded database where no other is named."""
    from spanpost import settings
    from spanpost.cli import logs

    database: dict[str, Any] = {"embedded": True}
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
    loaded = settings.load(**overrides)
    logs.configure(loaded.log, quiet=gateway is None)
    return loaded


def ask(settings: Settings, question: Callable[[Ledger], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with opened(settings) as ledger:
            return await question(ledger)

    return asyncio.run(ask())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Ledger]:
    """Lend the ledger of the settings, open."""
    from spanpost import assembly

    ledger = assembly.open_ledger(settings)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


def say_count(what: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        print(f"{what}: {count}")


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def _plain(value: object) -> object:
    from datetime import datetime
    from decimal import Decimal

    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)
