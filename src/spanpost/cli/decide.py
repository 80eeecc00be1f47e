"""``spanpost decide``: answer an agent's question from the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.domain.errors import ConfigError


def decide(
    approval: Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the question as the agent gave it, or its key.")],
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="approve, deny, or one of the options that the agent gave.")],
    by: Annotated[str, typer.Option("--as", metavar="NAME", help="Who decides: shown to everybody, and kept.")],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Words to go with it; the agent reads them.")] = "",
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Whose question it is.")] = None,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Answer an agent's question. Whoever can reach the database may: no rule of the desk is asked."""
    from spanpost import controlling
    from spanpost.domain.interventions import Result

    name = by.strip()
    if not name:
        raise ConfigError("--as: the name is empty; say who decides")
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
