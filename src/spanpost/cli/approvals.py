"""``spanpost approvals``: list and answer the questions of agents to people, in the database or at a gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import typer

from spanpost.cli import completion
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, note_read, print_json, settings_of
from spanpost.cli.references import question_at, question_in
from spanpost.cli.remote import Url
from spanpost.model.acts import ContentKind
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.model.standing_approvals import Scope

if TYPE_CHECKING:
    from uuid import UUID

    from spanpost.store.protocols import Store

approvals = typer.Typer(help="List and answer the questions of agents to people.", no_args_is_help=True)

Approval = Annotated[
    str,
    typer.Argument(
        metavar="APPROVAL",
        autocompletion=completion.questions,
        help="Id of the question as `list` shows it, or as the agent gave it.",
    ),
]
Several = Annotated[
    list[str],
    typer.Argument(
        metavar="APPROVAL...",
        autocompletion=completion.questions,
        help="Ids of the questions as `list` shows them, or as the agent gave them. Each is answered alone.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Name of the person who does it, in the database; shown to everybody. The system's user is kept as well.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation; required without a terminal.")]
Words = Annotated[str, typer.Option("--comment", metavar="TEXT", help="A comment; the agent reads it.")]
Tenant = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Tenant of the question, in the database.")
]
Scoped = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="How far an approval goes: once, task (this tool in this task), hour, or always (this tool of this agent "
        "here).",
    ),
]
_STATES: Final = (*(str(state) for state in InterventionState), "all")


@approvals.command("list")
def listed(
    as_json: Json = False,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="open, decided, void, expired, or all.")
    ] = "open",
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Only questions of the agent with this name.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Tenant of the questions, in the database.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Maximum number, newest first.")
    ] = 50,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List questions, newest first; `show` shows a whole question."""
    if state not in _STATES:
        raise ConfigError(f"--state {state}: there is no such state; use one of {', '.join(_STATES)}")
    wanted = None if state == "all" else state
    if url is not None:
        from spanpost.cli.remote import Remote

        with Remote(url, data_dir) as remote:
            found = remote.items("/api/approvals", {"state": wanted, "agent": agent}, limit)
    else:
        from spanpost.model.queries import ApprovalFilter
        from spanpost.tasks.json_form import question_json

        settings = settings_of(database_url, data_dir)
        asked = ApprovalFilter(
            tenant=tenant if tenant is not None else settings.intake.tenant, state=wanted, agent=agent
        )
        page = ask(settings, lambda store: store.reader.approvals(asked, None, limit))
        tasks = [one.row.task_uid for one in page.items]
        if tasks:
            note_read(settings, ContentKind.QUESTION, tenant=asked.tenant or "", tasks=tasks)
        found = [question_json(one.row, one.task) for one in page.items]
    if as_json:
        print_json({"approvals": found})
        return
    if not found:
        print("no open questions" if state == "open" else "no such questions", file=sys.stderr)
        return
    from spanpost.cli import tables

    tables.print_questions(found, datetime.now(UTC))


@approvals.command()
def show(
    approval: Approval,
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show a whole question, and why a part of it cannot be read."""
    if url is not None:
        from spanpost.cli.remote import Remote

        with Remote(url, data_dir) as remote:
            found = question_at(remote, approval)
    else:
        settings = settings_of(database_url, data_dir)
        whose = tenant if tenant is not None else settings.intake.tenant
        task, found = ask(settings, lambda store: _whole(store, whose, approval))
        note_read(settings, ContentKind.QUESTION, tenant=whose, tasks=[task])
    if as_json:
        print_json(found)
        return
    from spanpost.cli import tables

    tables.print_question(found)


async def _whole(store: Store, tenant: str, ref: str) -> tuple[UUID, dict[str, Any]]:
    from spanpost.tasks.json_form import question_json

    row = await question_in(store, tenant, ref)
    return row.task_uid, question_json(row, await store.reader.find(row.task_uid))


def _answering(decision: str) -> Callable[..., None]:
    def command(
        several: Several,
        scope: Scoped = "once",
        by: By = None,
        comment: Words = "",
        is_sure: Yes = False,
        tenant: Tenant = None,
        as_json: Json = False,
        url: Url = None,
        database_url: DatabaseUrl = None,
        data_dir: DataDir = None,
    ) -> None:
        failed = 0
        for one in several:
            try:
                answer(one, decision, scope, by, comment, is_sure, tenant, as_json, url, database_url, data_dir)
            except typer.Exit:
                failed += 1
        if failed:
            raise typer.Exit(1)

    return command


_WHO: Final = "A gateway applies its rules; the database allows everybody who can reach it."
approvals.command("approve", help=f"Approve what an agent asks, after you have read all of it.\n{_WHO}")(
    _answering("approve")
)
approvals.command("deny", help=f"Deny what an agent asks. {_WHO}")(_answering("deny"))


def answer(
    approval: str,
    decision: str,
    scope: str,
    by: str | None,
    comment: str,
    is_sure: bool,
    tenant: str | None,
    as_json: bool,
    url: str | None,
    database_url: Any,
    data_dir: Any,
) -> None:
    """Show a question, answer it and print the result. Raises `Exit` if the answer does not stand."""
    name = (by or "").strip()
    if scope not in set(Scope) or (decision != "approve" and scope != Scope.ONCE):
        raise ConfigError(f"--scope {scope}: use once, task, hour or always, with approve alone")
    if url is None and not name:
        raise ConfigError(
            "--as is missing: give the name of the person who decides; it is shown to everybody, and kept"
        )
    if not is_sure and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            "--yes is missing: there is no terminal to confirm on; read the question (approvals list --json), "
            "then give --yes"
        )
    if url is not None:
        _answer_at(url, data_dir, approval, decision, scope, comment, is_sure=is_sure, as_json=as_json)
        return
    from spanpost.interactions import texts
    from spanpost.runtime import decisions
    from spanpost.store.system_user import system_user
    from spanpost.tasks.json_form import question_json

    settings = settings_of(database_url, data_dir)
    whose = tenant if tenant is not None else settings.intake.tenant
    try:
        row = ask(settings, lambda store: question_in(store, whose, approval))
        ref = str(row.key)
        _confirm(question_json(row, None), decision, is_sure=is_sure)
    except decisions.NoSuchQuestion:
        ref = approval  # the try is recorded
    # Answer by key: the answer then belongs to the question that was read, even if a newer one was asked.
    said: dict[str, Any] = {
        "by": name,
        "comment": comment,
        "scope": Scope(scope),
        "tenant": whose,
        "source": "cli",
        "user": system_user(),
    }
    verdict = ask(settings, lambda store: decisions.decide(store.interventions, ref, decision, **said))
    is_done = verdict.result in (Result.DONE, Result.COUNTED)
    if as_json:
        print_json(
            {
                "result": str(verdict.result),
                "task": verdict.task_id,
                "decision": verdict.decision or None,
                "by": verdict.by or None,
            }
        )
    else:
        is_whole = verdict.result is Result.DONE
        sentence = texts.done(Verb.APPROVE, verdict, "") if is_whole else texts.verdict(Verb.APPROVE, verdict)
        print(sentence, file=sys.stdout if is_done else sys.stderr)
    if not is_done:
        raise typer.Exit(1)


def _answer_at(
    url: str, data_dir: Any, approval: str, decision: str, scope: str, comment: str, *, is_sure: bool, as_json: bool
) -> None:

    from spanpost.cli.remote import Remote

    with Remote(url, data_dir) as remote:
        question = question_at(remote, approval)
        _confirm(question, decision, is_sure=is_sure)
        answered = remote.post(
            f"/api/approvals/{question['key']}/decision",
            {"decision": decision, "scope": scope, "comment": comment},
            str(uuid4()),
        )
    if as_json:
        print_json(
            {
                name: answered[key]
                for name, key in (("result", "result"), ("task", "task_id"), ("decision", "decision"), ("by", "by"))
            }
        )
    else:
        print(answered["message"])


def _confirm(question: Mapping[str, Any], decision: str, *, is_sure: bool) -> None:
    """Show the whole question on stderr; on a terminal ask for confirmation. Raises `Exit` if the person
    declines.
    """
    from spanpost.cli import tables

    tables.print_question(question, to_stderr=True)
    if not is_sure and not typer.confirm(f"Answer {decision!r}?", err=True):
        print("nothing was decided", file=sys.stderr)
        raise typer.Exit(1)
