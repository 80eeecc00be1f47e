"""``spanpost emit``: report the work of shell scripts and CI jobs."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanpost import semconv as c
from spanpost.cli.options import print_json
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.receivers import emit as wire
    from spanpost.settings import Settings

emit = typer.Typer(
    help="Report a task from a shell script: start, progress, questions, end.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint", metavar="URL", help="Gateway or Collector, over HTTP. [env var: SPANPOST_FORWARD__ENDPOINT]"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, as OTLP/JSON, and send nothing.")]
BestEffort = Annotated[
    bool, typer.Option("--best-effort", help="Exit 0 if it cannot be sent, so that the script goes on.")
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", metavar="TASK", help="The task, as `emit start` printed it. [env var: SPANPOST_TASK]"),
]
Links = Annotated[list[str] | None, typer.Option("--link", metavar="NAME=URL", help="A link to show; may be repeated.")]
Results = Annotated[
    list[str] | None, typer.Option("--result", metavar="NAME=VALUE", help="A figure or word to show; may be repeated.")
]


class EmitForm(StrEnum):
    """Output format of `start`."""

    SHELL = "shell"
    ENV = "env"
    JSON = "json"


class EmitOutcome(StrEnum):
    """Final status of a task."""

    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"


@emit.command(short_help="Begin a task; print what the next commands need.")
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Title of the task.")],
    task_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The task's own id; an id that was used before continues that task."),
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Name of the agent.")] = None,
    repo: Annotated[str | None, typer.Option("--repo", metavar="REPO", help="Repository or scope of the work.")] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="Topic; routes use it to choose a channel.")
    ] = None,
    requested_by: Annotated[
        str | None, typer.Option("--requested-by", metavar="WHO", help="Person for whom it runs.")
    ] = None,
    retry_of: Annotated[
        str | None, typer.Option("--retry-of", metavar="ID", help="Id of the task that this one retries.")
    ] = None,
    link: Links = None,
    child: Annotated[bool, typer.Option("--child", help="Begin it as a child of the task in SPANPOST_TASK.")] = False,
    form: Annotated[
        EmitForm,
        typer.Option("--format", metavar="FORM", help="shell (for eval), env (for $GITHUB_ENV and the like) or json."),
    ] = EmitForm.SHELL,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """Begin a task: eval "$(spanpost emit start 'Nightly build')". It prints SPANPOST_TASK, which
    identifies the task to the next commands, and TRACEPARENT, by which instrumented programs join its trace.
    """
    from spanpost.receivers import emit as wire

    about = {
        c.TASK_ID: task_id,
        c.NAME: agent,
        c.REPO: repo,
        c.TOPIC: topic,
        c.REQUESTED_BY: requested_by,
        c.RETRY_OF: retry_of,
        **_named(c.LINK_PREFIX, "--link", link, are_links=True),
    }
    if not name.strip():
        raise ConfigError("emit start: the name is empty; give a title")
    above = current_task(None) if child else None
    task = wire.begin(name, {key: value for key, value in about.items() if value is not None}, above)
    send([("records", wire.started(task))], endpoint, dry_run=dry_run, best_effort=best_effort)
    if dry_run:
        return
    values = {wire.TASK_VARIABLE: task.token, "TRACEPARENT": task.traceparent}
    if form is EmitForm.JSON:
        print(json.dumps({**values, "trace_id": task.trace_id, "span_id": task.span_id}))
    else:
        for variable, value in values.items():
            print(f"export {variable}={value}" if form is EmitForm.SHELL else f"{variable}={value}")


@emit.command(short_help="Report a checkpoint: progress, a step, what it does now.")
def checkpoint(
    message: Annotated[str | None, typer.Argument(metavar="MESSAGE", help="One line of text.")] = None,
    progress: Annotated[
        float | None, typer.Option("--progress", metavar="PERCENT", min=0, max=100, help="Percent done.")
    ] = None,
    action: Annotated[str | None, typer.Option("--action", metavar="TEXT", help="What the task does now.")] = None,
    step: Annotated[str | None, typer.Option("--step", metavar="NAME", help="Name of the current step.")] = None,
    step_index: Annotated[
        int | None, typer.Option("--step-index", metavar="N", min=1, help="Number of that step.")
    ] = None,
    step_count: Annotated[int | None, typer.Option("--step-count", metavar="N", min=1, help="Number of steps.")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="STATUS", help="working, waiting, paused or another status of a running task."
        ),
    ] = None,
    link: Links = None,
    result: Results = None,
    task: TaskOption = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """Report a checkpoint: progress, a step, or what the task does now."""
    living = [known for known in c.STATUSES if known not in c.FINAL_STATUSES]
    if status is not None and status not in living:
        raise ConfigError(
            f"--status {status}: use one of {', '.join(living)}; a task is ended by: spanpost emit end --status ..."
        )
    said = {
        c.CHECKPOINT_MESSAGE: message,
        c.PROGRESS: progress,
        c.ACTION: action,
        c.STEP_NAME: step,
        c.STEP_INDEX: step_index,
        c.STEP_COUNT: step_count,
        c.STATUS: status,
        **_named(c.LINK_PREFIX, "--link", link, are_links=True),
        **_named(c.RESULT_PREFIX, "--result", result),
    }
    report(c.EVENT_CHECKPOINT, said, task, endpoint, dry_run=dry_run, best_effort=best_effort)


@emit.command(short_help="Report something that was made.")
def artifact(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the artifact.")],
    uri: Annotated[str | None, typer.Option("--uri", metavar="URI", help="Where it is.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="pr, file, deploy or the like.")] = None,
    task: TaskOption = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """Report something that the task made."""
    said = {c.ARTIFACT_NAME: name, c.ARTIFACT_URI: uri, c.ARTIFACT_KIND: kind}
    report(c.EVENT_ARTIFACT, said, task, endpoint, dry_run=dry_run, best_effort=best_effort)


@emit.command(short_help="Report that a part of the task failed; the task goes on.")
def error(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What went wrong.")],
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Type of the error.")] = None,
    log_tail: Annotated[
        Path | None, typer.Option("--log-tail", metavar="FILE", help="Log file whose end is kept with it; - for stdin.")
    ] = None,
    task: TaskOption = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """Report that a part of the task failed. The task goes on: `emit end --status error` ends it."""
    said = {c.EXCEPTION_MESSAGE: message, c.EXCEPTION_TYPE: kind, c.ERROR_LOG_TAIL: _tail(log_tail)}
    report(c.EVENT_ERROR, said, task, endpoint, dry_run=dry_run, best_effort=best_effort)


@emit.command(short_help="End the task.")
def end(
    message: Annotated[str | None, typer.Argument(metavar="MESSAGE", help="Why it failed, or a last message.")] = None,
    status: Annotated[
        EmitOutcome | None, typer.Option("--status", metavar="STATUS", help="complete, error or cancelled.")
    ] = None,
    exit_code: Annotated[
        int | None,
        typer.Option("--exit-code", metavar="CODE", help="Take the status from a program's exit code, as in $?."),
    ] = None,
    log_tail: Annotated[
        Path | None,
        typer.Option("--log-tail", metavar="FILE", help="Log file whose end is kept with an error; - for stdin."),
    ] = None,
    link: Links = None,
    result: Results = None,
    task: TaskOption = None,
    endpoint: Endpoint = None,
    dry_run: DryRun = False,
    best_effort: BestEffort = False,
) -> None:
    """End the task. In a script: trap 'spanpost emit end --exit-code $?' EXIT."""
    from spanpost.receivers import emit as wire

    if status is not None and exit_code is not None:
        raise ConfigError("emit end: give --status or --exit-code, not both")
    if exit_code is not None:
        # A shell reports 128 + the signal number: SIGINT (130) and SIGTERM (143) are stops on purpose.
        status = (
            EmitOutcome.COMPLETE
            if exit_code == 0
            else EmitOutcome.CANCELLED
            if exit_code in (130, 143)
            else EmitOutcome.ERROR
        )
        message = message or (f"exit code {exit_code}" if exit_code else None)
    status = status or EmitOutcome.COMPLETE
    current = current_task(task)
    said = {
        c.STATUS: str(status),
        **_named(c.LINK_PREFIX, "--link", link, are_links=True),
        **_named(c.RESULT_PREFIX, "--result", result),
    }
    sent: list[tuple[str, dict[str, Any]]] = []
    failed = status is EmitOutcome.ERROR
    if message and not failed:
        sent.append(("records", wire.happened(current, c.EVENT_CHECKPOINT, {c.CHECKPOINT_MESSAGE: message})))
    if failed and (tail := _tail(log_tail)) is not None:
        said[c.ERROR_LOG_TAIL] = tail
    sent.append(("spans", wire.ended(current, said, is_failed=failed, message=(message or "") if failed else "")))
    send(sent, endpoint, dry_run=dry_run, best_effort=best_effort)


def report(
    event: str, said: dict[str, Any], task: str | None, endpoint: str | None, *, dry_run: bool, best_effort: bool
) -> None:
    """Send one event of the task."""
    from spanpost.receivers import emit as wire

    said = {key: value for key, value in said.items() if value is not None}
    if not said:
        raise ConfigError(
            "emit checkpoint: there is nothing to report; give a message, --progress, --step or another option"
        )
    send(
        [("records", wire.happened(current_task(task), event, said))],
        endpoint,
        dry_run=dry_run,
        best_effort=best_effort,
    )


def current_task(given: str | None) -> wire.EmittedTask:
    """Return the given task, else that of the environment. Raises `ConfigError`."""
    from spanpost.receivers import emit as wire

    token = given or os.environ.get(wire.TASK_VARIABLE, "")
    if not token:
        raise ConfigError(
            f'{wire.TASK_VARIABLE} is not set: no task was begun here; begin one: eval "$(spanpost emit start '
            "'its name')\""
        )
    return wire.task_of(token)


def send(parts: list[tuple[str, dict[str, Any]]], endpoint: str | None, *, dry_run: bool, best_effort: bool) -> None:
    """Send records and spans, one request for each; or print them."""
    from spanpost.cli import complain
    from spanpost.receivers import emit as wire

    resource = _resource()
    requests = [
        wire.request(resource, records=[one]) if kind == "records" else wire.request(resource, spans=[one])
        for kind, one in parts
    ]
    if dry_run:
        for _, body in requests:
            print_json(body)
        return
    from spanpost.runtime.forwarding import target_of

    section = settings_with(endpoint).forward
    assert section is not None
    target = target_of(section)
    try:
        for signal, body in requests:
            wire.post(target, signal, body)
    except wire.NotAccepted as error:
        if not best_effort:
            raise
        complain(error)


def settings_with(endpoint: str | None) -> Settings:
    """Return the settings, with an endpoint. Raises `ConfigError` without one."""
    from spanpost import settings

    loaded = settings.load(**({"forward": {"endpoint": endpoint}} if endpoint is not None else {}))
    if loaded.forward is None:
        raise ConfigError(
            "emit: no endpoint is set; set SPANPOST_FORWARD__ENDPOINT=http://host:4318 or give --endpoint"
        )
    return loaded


def _resource() -> dict[str, Any]:
    """Return the resource attributes of OpenTelemetry's variables; the service is `shell` if they name none."""
    resource: dict[str, Any] = {"service.name": "shell"}
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, is_pair, value = pair.partition("=")
        if is_pair and key.strip():
            resource[key.strip()] = _unquoted(value.strip())
    if name := os.environ.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    return resource


def _unquoted(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)


def _named(prefix: str, option: str, pairs: list[str] | None, *, are_links: bool = False) -> dict[str, str]:
    named = {}
    for pair in pairs or ():
        name, is_pair, value = pair.partition("=")
        if not is_pair or not name or not value:
            raise ConfigError(f"{option} {pair}: write NAME={'URL' if are_links else 'VALUE'}")
        if are_links and not value.lower().startswith(("https://", "http://")):
            raise ConfigError(f"{option} {pair}: a link begins with https:// or http://")
        named[prefix + name] = value
    return named


def _tail(path: Path | None) -> str | None:
    """Return the end of a log file."""
    if path is None:
        return None
    most = 48 * 1024  # bytes; invalid UTF-8 grows threefold, and a value has at most 64 KiB
    if str(path) == "-":
        return sys.stdin.buffer.read()[-most:].decode("utf-8", "replace")
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - most))
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"--log-tail {path}: cannot be read: {error.strerror or error}") from None
