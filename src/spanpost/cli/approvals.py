"""``spanpost approvals``: the questions that agents ask people, listed and answered, in the database or at a gateway."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.cli.remote import Url
from spanpost.domain.errors import ConfigError
from spanpost.domain.interventions import Result, State

approvals = typer.Typer(help="List and answer what agents ask people.", no_args_is_help=True)

Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the question as the agent gave it, or its key.")]
By = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who does it, in the database: shown to everybody, and kept.")]
Words = Annotated[str, typer.Option("--comment", metavar="TEXT", help="Words to go with it; the agent reads them.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Whose question it is, in the database.")]
_STATES: Final = (*(str(state) for state in State), "all")


@approvals.command("list")
def listed(
    as_json: Json = False,
    state: Annotated[str, typer.Option("--state", metavar="STATE", help="open, decided, void, expired, or all.")] = "open",
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only of the agent with this name.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Whose questions, in the database.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many at most, newest first.")] = 50,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List questions, newest first."""
    if state not in _STATES:
        raise ConfigError(f"--state {state}: there is no such state; use one of {', '.join(_STATES)}")
    wanted = None if state == "all" else state
    if url is not None:
        from spanpost.cli.remote import Remote

        with Remote(url) as remote:
            found = remote.items("/api/approvals", {"state": wanted, "agent": agent}, limit)
    else:
        from spanpost.domain.browsing import ApprovalFilter
        from spanpost.fold.report import question_json

        settings = settings_of(database_url, data_dir)
        asked = ApprovalFilter(tenant=tenant if tenant is not None else settings.intake.tenant, state=wanted, agent=agent)
        page = ask(settings, lambda ledger: ledger.browse.approvals(asked, None, limit))
        found = [question_json(one.row, one.task) for one in page.items]
    if as_json:
        print_json({"approvals": found})
        return
    if not found:
        print("nobody is asked anything" if state == "open" else "no such questions", file=sys.stderr)
        return
    from spanpost.cli import tables

    tables.print_questions(found)


@approvals.command()
def approve(
    approval: Approval,
    by: By = None,
    comment: Words = "",
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Approve what an agent asks. At a gateway its rules hold; in the database whoever reaches it may."""
    answer(approval, "approve", by, comment, tenant, as_json, url, database_url, data_dir)


@approvals.command()
def deny(
    approval: Approval,
    by: By = None,
    comment: Words = "",
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Deny what an agent asks. At a gateway its rules hold; in the database whoever reaches it may."""
    answer(approval, "deny", by, comment, tenant, as_json, url, database_url, data_dir)


def answer(
    approval: str,
    decision: str,
    by: str | None,
    comment: str,
    tenant: str | None,
    as_json: bool,
    url: str | None,
    database_url: Any,
    data_dir: Any,
) -> None:
    """Answer a question and say what became of it. Raises `Exit` where it does not stand."""
    if url is not None:
        _answer_at(url, approval, decision, comment, as_json=as_json)
        return
    from spanpost import controlling

    name = (by or "").strip()
    if not name:
        raise ConfigError("--as: say who decides; the name is shown to everybody, and kept")
    settings = settings_of(database_url, data_dir)
    whose = tenant if tenant is not None else settings.intake.tenant
    verdict = ask(
        settings,
        lambda ledger: controlling.decide(ledger, approval, decision, by=name, comment=comment, tenant=whose, source="cli"),
    )
    is_done = verdict.result is Result.DONE
    if as_json:
        print_json(
            {"result": str(verdict.result), "task": verdict.task_id, "decision": verdict.decision or None, "by": verdict.by or None}
        )
    else:
        told = {
            Result.DONE: f"{verdict.decision}: the agent is told",
            Result.DECIDED: f"it was decided before: {verdict.decision}{f' by {verdict.by}' if verdict.by else ''}",
            Result.VOID: "it was asked again in other words: answer that question",
            Result.EXPIRED: "its time is over",
            Result.TOO_LATE: "its task has ended",
        }.get(verdict.result, str(verdict.result))
        print(told, file=sys.stdout if is_done else sys.stderr)
    if not is_done:
        raise typer.Exit(1)


def _answer_at(url: str, approval: str, decision: str, comment: str, *, as_json: bool) -> None:
    from urllib.parse import quote

    from spanpost.cli.remote import Remote

    with Remote(url) as remote:
        path = f"/api/approvals/{quote(approval, safe='')}/decision"
        told = remote.post(path, {"decision": decision, "comment": comment}, str(uuid4()))
    if as_json:
        print_json({"result": told["result"], "task": told["task_id"], "decision": told["decision"], "by": told["by"]})
    else:
        print(f"{told['decision']}: the agent is told")
