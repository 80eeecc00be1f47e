"""The commands. Each reads its settings, calls the runtime and prints; modules are imported where they are
needed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spanpost.cli import acts, completion
from spanpost.cli.alerts import alerts
from spanpost.cli.approvals import approvals
from spanpost.cli.archive import archive
from spanpost.cli.assistant import mcp
from spanpost.cli.database import db
from spanpost.cli.decide import decide
from spanpost.cli.deliveries import deliveries
from spanpost.cli.emit_approval import emit
from spanpost.cli.erase import erase
from spanpost.cli.hook import hook
from spanpost.cli.options import Ascii, DatabaseUrl, DataDir, Json, MetricsPort, print_json, refuse_unknown, settings_of
from spanpost.cli.preview import preview
from spanpost.cli.quarantine import quarantine
from spanpost.cli.redact import redact
from spanpost.cli.remote import Url
from spanpost.cli.sealed_log import audit
from spanpost.cli.sections import Sections
from spanpost.cli.show import show
from spanpost.cli.slack import slack
from spanpost.cli.spending import spending
from spanpost.cli.standing_approvals import rules
from spanpost.cli.start import start
from spanpost.cli.stats import stats
from spanpost.cli.tokens import token
from spanpost.cli.top import top
from spanpost.cli.watch import watch
from spanpost.model.errors import ConfigError
from spanpost.model.task_acts import TASK_ACTS
from spanpost.settings import Settings

program = typer.Typer(
    name="spanpost",
    help="Posts an agent's OpenTelemetry spans where people look.",
    no_args_is_help=True,
    cls=Sections,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
approvals.add_typer(rules, name="rules")
program.add_typer(approvals, name="approvals")
program.add_typer(alerts, name="alerts")
program.add_typer(deliveries, name="deliveries")
program.add_typer(quarantine, name="quarantine")
program.add_typer(db, name="db")
program.add_typer(audit, name="audit")
program.add_typer(archive, name="archive")
program.add_typer(emit, name="emit")
program.add_typer(hook, name="hook")
program.add_typer(slack, name="slack")
program.add_typer(token, name="token")
program.command(short_help="Answer an agent's question.")(decide)
program.command(short_help="Start work by a launcher.")(start)
for _act in TASK_ACTS.values():
    acts.add(program, _act)
program.command(short_help="Erase a task, a person, a tenant or a time range.")(erase)
program.command(short_help="Show spent budgets and rate limits of providers.")(spending)
program.command(short_help="Show a task: tree, errors, questions, cost, timeline.")(show)
program.command(short_help="Show open tasks live; answer and cancel.")(top)
program.command(short_help="Add up runs, failures, durations and cost.")(stats)
program.command(short_help="Print checkpoints of tasks live.")(watch)
program.command(short_help="Serve the Model Context Protocol for an assistant.")(mcp)
program.command(short_help="Draw what Slack would show, as a page or a picture.")(preview)
program.command(short_help="Show what the rules of redaction change, and why.")(redact)


def _version(asked: bool) -> None:
    if asked:
        from spanpost.cli import version

        print(version())
        raise typer.Exit


@program.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Posts an agent's OpenTelemetry spans where people look."""


@program.command(short_help="Run a small agent and show it as Slack would.")
def demo(
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    metrics_port: MetricsPort = None,
    fast: Annotated[bool, typer.Option("--fast", help="Do not pause between the agent's actions.")] = False,
) -> None:
    """Run a small agent, offline, and show it as Slack would; its audit rows are kept in PostgreSQL."""
    from spanpost.demo.show import show

    # A URL may hold a password: only a placeholder is shown.
    again = ["--database-url", "URL"] if database_url is not None else []
    again += ["--data-dir", str(data_dir)] if data_dir is not None else []
    show(settings_of(database_url, data_dir, metrics_port, serve_metrics=True), fast=fast, again=again)


@program.command(short_help="Receive OTLP, record, deliver, serve metrics.")
def run(
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    metrics_port: MetricsPort = None,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="Address to listen on. [env var: SPANPOST_GATEWAY__HOST]"),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port",
            metavar="PORT",
            min=-1,
            max=65535,
            help="Port of OTLP/HTTP, 0 for a free one, -1 for none. [env var: SPANPOST_GATEWAY__HTTP_PORT]",
        ),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            "--grpc-port",
            metavar="PORT",
            min=-1,
            max=65535,
            help="Port of OTLP/gRPC, 0 for a free one, -1 for none. [env var: SPANPOST_GATEWAY__GRPC_PORT]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=64,
            help="Number of receiving processes, one for each core. [env var: SPANPOST_GATEWAY__WORKERS]",
        ),
    ] = None,
    consume: Annotated[
        bool,
        typer.Option(
            "--consume", help="Also record the messages of Kafka's topics. [env var: SPANPOST_KAFKA__CONSUME]"
        ),
    ] = False,
) -> None:
    """Receive OTLP over HTTP (4318) and gRPC (4317), record it, deliver checkpoints and serve metrics,
    until Ctrl-C.

    A sender gets its answer when its spans are committed. SIGHUP reads routes, secrets, certificates, sealing
    and retention again. SIGTERM answers and records requests in progress, and stops within ten seconds.
    """
    from spanpost.cli.service import serve

    gateway = {"host": host, "http_port": http_port, "grpc_port": grpc_port, "workers": workers}
    gateway = {name: value for name, value in gateway.items() if value is not None}

    def read() -> Settings:
        return settings_of(database_url, data_dir, metrics_port, serve_metrics=True, gateway=gateway, consume=consume)

    if not serve(read):
        raise typer.Exit(1)


@program.command(short_help="Check settings, database and ports.")
def check(
    as_json: Json = False,
    sends: Annotated[
        bool, typer.Option("--send", help="Also post a test message to each place that the routes lead to.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Check settings, database and ports, and print what to do about each finding. Exit 1 if something is
    wrong.
    """
    from spanpost.cli.examination import examine

    findings = examine(settings_of(database_url, data_dir), sends=sends)
    if as_json:
        print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name:<10} {finding.finding}")
            if finding.next_step:
                print(f"     {'':<10} -> {finding.next_step}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@program.command(short_help="Print the tasks of recordings, or record them.")
def replay(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="OTLP bodies: protobuf or JSON lines, gzip or not.")
    ],
    as_json: Json = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Explain for each task why it is one, what was merged into it, and which rules decided."
        ),
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="URL", help="Record them in this PostgreSQL; `settings`: in the database of the settings."
        ),
    ] = None,
    deliver: Annotated[
        bool,
        typer.Option(
            "--deliver", help="With --into: also post checkpoints that are not older than `notifications.max_age`."
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Read recorded telemetry and print the tasks and checkpoints that it would make. Nothing is stored or
    posted without --into.

    With --into, the tasks and audit rows are recorded, each once however often you repeat it, and nothing
    is posted without --deliver.
    """
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: there is no such file; name recorded OTLP bodies")
    if into is not None:
        _replay_into(files, into, data_dir, deliver=deliver, as_json=as_json)
        return
    if deliver:
        raise ConfigError("replay --deliver: nothing can be delivered without a database; name one with --into")
    from spanpost.runtime import replay as replays

    result = replays.replay(files, explain=explain)
    if as_json:
        from spanpost.tasks.json_form import report

        print_json(
            report(result.tasks, result.checkpoints, result.dropped, explained=result.explained if explain else None)
        )
        return
    from spanpost.cli import tables, task_lines
    from spanpost.tasks.titles import title

    if not result.tasks:
        print("no tasks: nothing in these files is an agent's", file=sys.stderr)
    else:
        print(f"{task_lines.summary(result.tasks, len(result.checkpoints))}\n")
        task_lines.print_tasks(result.tasks)
        if explain:
            task_lines.print_explained(result.tasks, result.explained)
    if result.checkpoints:
        print()
        tables.print_checkpoints(result.checkpoints, {task.uid: title(task) for task in result.tasks})
    tables.print_dropped(result.dropped)


def _replay_into(files: list[Path], into: str, data_dir: Path | None, *, deliver: bool, as_json: bool) -> None:
    from msgspec import to_builtins

    from spanpost.runtime.replay import replay_into

    counts = replay_into(files, settings_of(None if into == "settings" else into, data_dir), deliver=deliver)
    if as_json:
        print_json(to_builtins(counts))
        return
    from spanpost.cli import tables

    print(
        f"recorded {counts.events} rows of {counts.tasks} tasks; {counts.duplicates} were known, {counts.ignored} "
        "are not an agent's"
    )
    if not deliver:
        print("nothing was posted; --deliver posts")
    else:
        left = "" if counts.is_delivered else "; not all of them arrived yet, `spanpost run` continues with them"
        print(f"{counts.deliveries} deliveries{left}")
    tables.print_dropped(counts.dropped)


@program.command(short_help="List tasks, one line each.")
def tasks(
    as_json: Json = False,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only tasks in this status; may be repeated.")
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="NAME", help="Only tasks of the agent with this name; may be repeated."),
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", metavar="NAME", help="Only tasks with this topic; may be repeated.")
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option("--type", metavar="NAME", help="Only tasks of this type; may be repeated.")
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", metavar="NAME", help="Only tasks of this environment; may be repeated."),
    ] = None,
    person: Annotated[
        list[str] | None, typer.Option("--person", metavar="WHO", help="Only tasks for this person; may be repeated.")
    ] = None,
    repo: Annotated[
        list[str] | None, typer.Option("--repo", metavar="NAME", help="Only tasks on this repository; may be repeated.")
    ] = None,
    session: Annotated[
        list[str] | None, typer.Option("--session", metavar="ID", help="Only tasks of this session; may be repeated.")
    ] = None,
    q: Annotated[
        str, typer.Option("--search", metavar="TEXT", help="Only tasks with this text in name, action, id or agent.")
    ] = "",
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only tasks that began since: RFC 3339, or an age such as 36h, 7d, 2w."
        ),
    ] = None,
    roots: Annotated[bool, typer.Option("--roots", help="Only root tasks.")] = False,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Only tasks of this tenant, in the database.")
    ] = None,
    task_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            autocompletion=completion.tasks,
            help="Only the task with this id, or whose id begins so.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Maximum number, newest first.")
    ] = 50,
    is_ascii: Ascii = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List tasks, one line each, newest first; child tasks below their parents. Wider terminals show more."""
    from spanpost.cli import listing

    refuse_unknown(status)
    words = {"status": status, "agent": agent, "topic": topic, "type": type, "environment": environment}
    words |= {"person": person, "repo": repo, "session": session}
    asked = listing.ListRequest(
        words={name: tuple(said or ()) for name, said in words.items()},
        q=q,
        since=listing.time_of(since),
        roots=roots,
        tenant=tenant,
        task_id=task_id,
        limit=limit,
    )
    found = asked.at_gateway(url, data_dir) if url is not None else asked.in_store(settings_of(database_url, data_dir))
    if as_json:
        print_json({"tasks": [row for _, row in found]})
        return
    if not found:
        none = (
            "no such tasks" if asked.is_narrow else "no tasks yet: run `spanpost demo`, or attach spanpost to an agent"
        )
        print(none, file=sys.stderr)
        return
    from spanpost.cli import task_lines

    task_lines.print_tasks([task for task, _ in found], is_ascii=is_ascii)
