"""``spanpost start``: start work by a launcher, at a gateway or by an order in the database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from spanpost.cli.approvals import By
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.cli.remote import Remote, Url, path_of
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Result

if TYPE_CHECKING:
    from spanpost.settings import Settings


def start(
    launcher: Annotated[str, typer.Argument(metavar="LAUNCHER", help="Its name in `launchers.named`.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The work to do.")] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Parameter of the launcher; may be repeated."),
    ] = None,
    by: By = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Tenant of the work, in the database.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Start work by a launcher. A gateway applies its rules; the database allows everybody who can reach
    it.

    The order is placed when the command returns. A process that has the launcher in its settings carries it
    out.
    """
    given = dict(_pair(one) for one in parameter or ())
    if url is not None:
        order = _at_gateway(url, data_dir, launcher, text, given)
    else:
        order = _in_database(launcher, text, given, by, tenant, settings_of(database_url, data_dir))
    if as_json:
        print_json({"order_id": order, "launcher": launcher})
    else:
        print(f"{launcher} is asked to start it: order {order}")


def _pair(said: str) -> tuple[str, str]:
    name, is_there, value = said.partition("=")
    if not is_there or not name:
        raise ConfigError(f"--parameter {said[:60]!r}: write it as NAME=VALUE")
    return name, value


def _at_gateway(url: str, data_dir: Path | None, launcher: str, text: str, given: dict[str, str]) -> str:

    with Remote(url, data_dir) as remote:
        placed = remote.post(
            f"/api/launchers/{path_of(launcher)}/start", {"text": text, "parameters": given}, str(uuid4())
        )
    return str(placed["order_id"])


def _in_database(
    launcher: str, text: str, given: dict[str, str], by: str | None, tenant: str | None, settings: Settings
) -> str:
    from spanpost.runtime import decisions
    from spanpost.store.system_user import system_user

    name = (by or "").strip()
    if not name:
        raise ConfigError(
            "--as is missing: give the name of the person who starts it; it is kept, and the work runs for them"
        )
    whose = tenant if tenant is not None else settings.intake.tenant
    launches = settings.launchers
    verdict = ask(
        settings,
        lambda store: decisions.start(
            store.interventions,
            launches,
            launcher,
            text,
            given,
            by=name,
            tenant=whose,
            source="cli",
            user=system_user(),
        ),
    )
    if verdict.result is not Result.DONE:
        print(f"not started: {verdict.result}", file=sys.stderr)
        raise typer.Exit(1)
    return str(verdict.order_id)
