"""``spanpost approvals rules``: list and revoke standing approvals, in the database or at a gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import typer

from spanpost.cli.approvals import By, Tenant, Words, Yes
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.cli.references import key_in
from spanpost.cli.remote import Url
from spanpost.model.acts import SYSTEM_USER
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor, Intervention, Result, Verb, Verdict

if TYPE_CHECKING:
    from spanpost.settings import Settings

rules = typer.Typer(
    help="List and revoke standing approvals: what people allow beyond one question.", no_args_is_help=True
)


@rules.command("list")
def listed(
    as_json: Json = False,
    shows_all: Annotated[bool, typer.Option("--all", help="Also those that are over or revoked.")] = False,
    tenant: Tenant = None,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List standing approvals, newest first."""
    if url is not None:
        from spanpost.cli.remote import Remote

        with Remote(url, data_dir) as remote:
            found = remote.get("/api/standing-approvals", {"all": str(shows_all).lower()})["items"]
    else:
        found = _in_database(settings_of(database_url, data_dir), tenant, shows_all=shows_all)
    if as_json:
        print_json({"standing_approvals": found})
        return
    if not found:
        print("no standing approvals", file=sys.stderr)
        return
    from spanpost.cli import tables

    tables.print_standing(found)


def _in_database(settings: Settings, tenant: str | None, *, shows_all: bool) -> list[dict[str, Any]]:
    from spanpost.model.standing_approvals import StandingQuery
    from spanpost.tasks.json_form import standing_json

    query = StandingQuery(tenant=tenant if tenant is not None else settings.intake.tenant, is_in_force=not shows_all)
    return [standing_json(one) for one in ask(settings, lambda store: store.interventions.standing_approvals(query))]


def _id_of(found: Callable[[], Sequence[Mapping[str, Any]]], ref: str) -> UUID:
    try:
        return UUID(key_in(found, ref, "tool"))
    except ValueError:
        raise ConfigError(
            f"{ref[:100]!r}: no standing approval has that id; `approvals rules list` lists them"
        ) from None


@rules.command()
def revoke(
    ref: Annotated[str, typer.Argument(metavar="ID", help="Id of the standing approval, as `rules list` prints it.")],
    by: By = None,
    comment: Words = "",
    is_sure: Yes = False,
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke a standing approval: the next question of its tool is asked again, at once, at every gateway."""
    name = (by or "").strip()
    if url is None and not name:
        raise ConfigError("--as is missing: give the name of the person who revokes it; it is kept")
    if not is_sure and not (sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("Revoke it?", err=True)):
        raise ConfigError("--yes is missing: nothing was revoked")
    if url is not None:
        from spanpost.cli.remote import Remote

        with Remote(url, data_dir) as remote:
            id = _id_of(lambda: remote.get("/api/standing-approvals", {"all": "true"})["items"], ref)
            answered = remote.post(f"/api/standing-approvals/{id}/revoke", {"comment": comment}, str(uuid4()))
        result, sentence = Result(answered["result"]), str(answered["message"])
    else:
        from spanpost.interactions import texts

        settings = settings_of(database_url, data_dir)
        id = _id_of(lambda: _in_database(settings, tenant, shows_all=True), ref)
        verdict = _revoked(id, name, comment, tenant, settings)
        result, sentence = verdict.result, texts.verdict(Verb.REVOKE, verdict)
    is_done = result is Result.DONE
    if as_json:
        print_json({"id": str(id), "result": str(result)})
    else:
        print(sentence, file=sys.stdout if is_done else sys.stderr)
    if not is_done:
        raise typer.Exit(1)


def _revoked(id: UUID, name: str, comment: str, tenant: str | None, settings: Settings) -> Verdict:
    from spanpost.store.system_user import system_user

    act = Intervention(
        tenant=tenant if tenant is not None else settings.intake.tenant,
        verb=Verb.REVOKE,
        key=id,
        actor=Actor(provider="cli", id=system_user(), name=name, credential=SYSTEM_USER),
        text=comment,
        source="cli",
        idempotency_key=f"cli {uuid4()}",
        at=datetime.now(UTC),
    )
    return ask(settings, lambda store: store.interventions.intervene(act))
