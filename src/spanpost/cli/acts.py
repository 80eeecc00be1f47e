"""``spanpost cancel``, ``pause`` and the other acts on a task: one command for each row of the table of acts."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import typer

from spanpost.cli import completion
from spanpost.cli.approvals import By, Words, Yes
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, print_json, settings_of
from spanpost.cli.references import NoSuchTask, task_at, task_in
from spanpost.cli.remote import Remote, Url, path_of
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Result
from spanpost.model.queries import LEAST_PREFIX
from spanpost.model.task_acts import TaskAct
from spanpost.tasks.titles import title

if TYPE_CHECKING:
    from spanpost.settings import Settings

_WHO: Final = "A gateway applies its rules; the database allows everybody who can reach it."

TaskRef = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        autocompletion=completion.tasks,
        help=f"Id of the task as `tasks` shows it: the beginning of an id ({LEAST_PREFIX} characters) if it is unique.",
    ),
]
TaskTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Tenant of the task, in the database.")
]


def add(program: typer.Typer, act: TaskAct) -> None:
    """Add the command of an act, with the parameters that the act has of all there are."""

    def command(
        task: TaskRef,
        option: str = "",
        text: str = "",
        comment: Words = "",
        by: By = None,
        is_sure: Yes = False,
        tenant: TaskTenant = None,
        as_json: Json = False,
        url: Url = None,
        database_url: DatabaseUrl = None,
        data_dir: DataDir = None,
    ) -> None:
        if act.needs_text and not text.strip():
            raise ConfigError(f"{act.verb}: TEXT is empty; write the words for the agent")
        if act.options and option not in act.options:
            raise ConfigError(f"{act.verb} {option[:60]!r}: there is no such word; use {' or '.join(act.options)}")
        is_sure = is_sure or not act.asks_first
        _do(act, task, text or comment, by, is_sure, tenant, as_json, url, database_url, data_dir, option)

    has = {
        "option": bool(act.options),
        "text": act.needs_text,
        "comment": not act.needs_text,
        "is_sure": act.asks_first,
    }
    words = typer.Argument(metavar="|".join(act.options), help="One of these words.")
    required = {"option": words, "text": typer.Argument(metavar="TEXT", help="The words for the agent.")}
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        one.replace(annotation=Annotated[str, required[name]], default=one.empty) if name in required else one
        for name, one in signature.parameters.items()
        if has.get(name, True)
    ]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    program.command(
        str(act.verb), short_help=act.does.partition(". ")[0].rstrip(".") + ".", help=f"{act.does}\n{_WHO}"
    )(command)


def _do(
    act: TaskAct,
    ref: str,
    text: str,
    by: str | None,
    is_sure: bool,
    tenant: str | None,
    as_json: bool,
    url: str | None,
    database_url: str | None,
    data_dir: Path | None,
    option: str = "",
) -> None:
    """Do an act on a task and print its outcome. Raises `Exit` if it has no effect."""
    if not is_sure and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("--yes is missing: there is no terminal to confirm on; look at the task, then give --yes")
    if url is not None:
        if tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        outcome = _at_gateway(act, ref, act.body(text, option), url, data_dir, is_sure=is_sure)
    else:
        name = (by or "").strip()
        if not name:
            raise ConfigError(
                "--as is missing: give the name of the person who does it; it is shown to everybody, and kept"
            )
        outcome = _in_database(
            act, ref, text, option, name, tenant, settings_of(database_url, data_dir), is_sure=is_sure
        )
    is_done = outcome["result"] == Result.DONE
    if as_json:
        print_json(outcome)
    else:
        print(outcome["message"], file=sys.stdout if is_done else sys.stderr)
    if not is_done:
        raise typer.Exit(1)


def _at_gateway(
    act: TaskAct, ref: str, body: Mapping[str, str], url: str, data_dir: Path | None, *, is_sure: bool
) -> Mapping[str, Any]:
    with Remote(url, data_dir) as remote:
        task = task_at(remote, ref)
        _confirm(act, task["name"] or task["task_id"], is_sure=is_sure)
        answered = remote.post(f"/api/tasks/{path_of(task['uid'])}/{act.path}", body, str(uuid4()))
    return {"task": answered["task_id"], **{name: answered[name] for name in ("result", "order_id", "message")}}


def _in_database(
    act: TaskAct, ref: str, text: str, option: str, by: str, tenant: str | None, settings: Settings, *, is_sure: bool
) -> Mapping[str, Any]:
    from spanpost.runtime import decisions
    from spanpost.store.system_user import system_user

    whose = tenant if tenant is not None else settings.intake.tenant
    launches = settings.launchers
    who = {"by": by, "source": "cli", "user": system_user()}
    try:
        task = ask(settings, lambda store: task_in(store, whose, ref))
    except NoSuchTask:
        ask(settings, lambda store: decisions.note_unknown(store.interventions, act.verb, ref, tenant=whose, **who))
        raise
    _confirm(act, title(task), is_sure=is_sure)
    outcome = ask(
        settings, lambda store: decisions.act(store.interventions, launches, act.verb, task, text, option=option, **who)
    )
    assert outcome.verdict is not None
    order = outcome.verdict.order_id
    return {
        "task": task.task_id,
        "result": str(outcome.result),
        "order_id": str(order) if order is not None else None,
        "message": outcome.sentence,
    }


def _confirm(act: TaskAct, name: str, *, is_sure: bool) -> None:
    """Ask for confirmation on the terminal. Raises `Exit` if the person declines."""
    from spanpost.text.sanitise import line

    if not is_sure and not typer.confirm(f"{str(act.verb).capitalize()} {line(name, 200)}?", err=True):
        print("nothing was done", file=sys.stderr)
        raise typer.Exit(1)
