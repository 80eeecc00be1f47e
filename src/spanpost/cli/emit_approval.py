"""``spanpost emit approval``: ask a person from a shell script, and wait for the answer."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanpost import semconv as c
from spanpost.cli.emit import BestEffort, DryRun, Endpoint, TaskOption, current_task, report, settings_with
from spanpost.cli.emit import emit as emit
from spanpost.cli.options import Json, print_json, time_at
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.agent.approvals import Decision
    from spanpost.agent.questions import AskedQuestion


@emit.command(short_help="Ask a person, and wait for the answer; or report a question.")
def approval(
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="The question; left out with --decision.")
    ] = None,
    approval_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The question's id; its answer uses the same id.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the answer of a person: exit 0 if it was approved, else 1.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="With --wait: give up after this time, with exit 1."),
    ] = None,
    detail: Annotated[str | None, typer.Option("--detail", metavar="TEXT", help="Longer text of the question.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="WORD",
            help="A possible answer; may be repeated. With --wait the chosen one is printed, with exit 0.",
        ),
    ] = None,
    risk: Annotated[str | None, typer.Option("--risk", metavar="WORD", help="low, medium, high or the like.")] = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="TIME", help="When the question expires, as RFC 3339.")
    ] = None,
    decision: Annotated[
        str | None, typer.Option("--decision", metavar="WORD", help="The answer to the question with this id.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who answered.")] = None,
    comment: Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="Comment of that person.")] = None,
    as_json: Json = False,
    task: TaskOption = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """Ask a person (QUESTION --wait): if spanpost emit approval 'Deploy?' --id deploy-1.4 --wait; then ...; fi.
    Exit 0: approved, or an option was chosen. Exit 1: denied, not decided in time, or the question could not be
    asked. Exit 2: a mistake in the command. Without --wait: report that a person must decide elsewhere
    (QUESTION), or has decided (--decision).
    """
    if approval_id is None:
        raise ConfigError("emit approval: --id is missing; give the same word with the question and its answer")
    if (question is None) == (decision is None):
        raise ConfigError("emit approval: give a QUESTION, or --decision with its answer")
    if wait:
        if dry_run or best_effort or decision is not None:
            raise ConfigError("emit approval: --wait cannot be used with --decision, --dry-run or --best-effort")
        asked = _asked(question or "", approval_id, option or [], detail or "", risk or "", expires_at)
        _ask_and_wait(asked, timeout, task, endpoint, as_json=as_json)
        return
    if timeout is not None or as_json:
        raise ConfigError("emit approval: --timeout and --json are for --wait")
    said: dict[str, Any] = {c.APPROVAL_ID: approval_id}
    if decision is None:
        said |= {c.APPROVAL_QUESTION: question, c.APPROVAL_DETAIL: detail, c.APPROVAL_OPTIONS: option or None}
        said |= {c.APPROVAL_RISK: risk, c.APPROVAL_EXPIRES_AT: expires_at}
    else:
        said |= {c.APPROVAL_DECISION: decision, c.APPROVAL_BY: by, c.APPROVAL_COMMENT: comment}
    event = c.EVENT_APPROVAL_REQUESTED if decision is None else c.EVENT_APPROVAL_RESOLVED
    report(event, said, task, endpoint, dry_run=dry_run, best_effort=best_effort)


def _asked(question: str, id: str, options: list[str], detail: str, risk: str, expires_at: str | None) -> AskedQuestion:
    """Return the question as agents ask it. Raises `ConfigError`."""
    from spanpost.agent.questions import AskedQuestion

    try:
        until = time_at(expires_at, is_local=True) if expires_at is not None else None
    except ValueError:
        raise ConfigError("--expires-at: write it as 2026-03-01T12:00:00Z") from None
    try:
        return AskedQuestion(question, id, options, detail, risk, None, until, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"emit {error}") from None


def _ask_and_wait(
    asked: AskedQuestion, timeout: float | None, task: str | None, endpoint: str | None, *, as_json: bool
) -> None:
    """Ask, wait, and print the answer. Raises `Exit` with 1 unless a person approved or chose."""
    from spanpost.agent.approvals import answer_of, decision_of
    from spanpost.runtime.forwarding import gateway_client

    if timeout is not None and not 0 < timeout < float("inf"):
        raise ConfigError("--timeout: give more than 0 seconds")
    client = gateway_client(settings_with(endpoint))
    if client is None:
        raise ConfigError(
            "emit approval --wait: answers come by HTTP; set SPANPOST_CONTROL__ENDPOINT to the gateway's address"
        )
    trace = int(current_task(task).trace_id, 16)
    report(c.EVENT_APPROVAL_REQUESTED, dict(asked.attributes), task, endpoint, dry_run=False, best_effort=False)

    async def answer() -> Decision | None:
        try:
            async with asyncio.timeout(timeout):
                return decision_of(asked, await answer_of(client, asked.id, asked.mark, trace))
        except TimeoutError:
            return None

    decision = asyncio.run(answer())
    is_granted = decision is not None and _is_granted(asked, decision)
    if as_json:
        found = asdict(decision) if decision is not None else {"id": asked.id, "decision": None}
        print_json({**found, "is_granted": is_granted})
    elif is_granted and decision is not None and asked.options:
        print(decision.decision)
    print(_sentence(decision), file=sys.stderr)
    if not is_granted:
        raise typer.Exit(1)


def _is_granted(asked: AskedQuestion, decision: Decision) -> bool:
    """Return whether a person approved, or chose an option. An option that is called deny refuses."""
    if not asked.options:
        return decision.approved
    is_option = decision.decision in asked.options.values() and not decision.denied
    return is_option and bool(decision.source) and not decision.expired


def _sentence(decision: Decision | None) -> str:
    from spanpost.text.sanitise import line

    if decision is None:
        return "not decided in time; the question stays open"
    by = f" by {line(decision.by, 100)}" if decision.by else ""
    comment = f": {line(decision.comment, 500)}" if decision.comment else ""
    if decision.expired:
        return f"not decided{comment or ': its deadline has passed'}"
    return f"{line(decision.decision, 100)}{by}{comment}"
