"""``spanpost erase``: erase a task, a person, a tenant or a time range."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, print_json, settings_of, time_at
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from uuid import UUID

    from spanpost.settings import Settings
    from spanpost.store.erasing.run import Report

#: Seconds between two looks at messages that are being deleted.
_LOOK = 1.0


def erase(
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="ID", help="Erase the task with this id, and all tasks of its tree."),
    ] = None,
    person: Annotated[
        list[str] | None,
        typer.Option(
            "--person",
            metavar="WHO",
            help="Erase the person with this id, email address or name. Repeat it for further ids of the same person.",
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="TENANT", help="Erase this tenant, or only within this tenant.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Erase tasks that began at this time (ISO 8601) or later."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Erase tasks that began before this time (ISO 8601).")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="TEXT", help="Also replace this text wherever it stands. Can be repeated."),
    ] = None,
    is_done: Annotated[
        bool, typer.Option("--yes", help="Erase. Without it, the command only prints what it would erase.")
    ] = False,
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why, for the record that stays: a ticket's number, say."),
    ] = "",
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Seconds to wait until messages in Slack are deleted."),
    ] = 30.0,
    shows_list: Annotated[bool, typer.Option("--list", help="List earlier erasures and how far they are.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Erase a task, a person, a tenant or a time range from the database, its archives and Slack.

    Without --yes it only prints what it would erase. Several selections narrow each other. Run it with the
    role that owns the tables. If it was interrupted, give the same command again: it goes on.
    docs/how-to/erase.md says what goes and what stays.
    """
    from spanpost.runtime import erasing

    settings = settings_of(database_url, data_dir)
    if shows_list:
        _print_list(settings, as_json=as_json)
        return
    from spanpost.store.erasing.selection import Selection

    asked = Selection(
        task=task,
        person=tuple(person or ()),
        tenant=tenant,
        since=_time("--from", since),
        until=_time("--to", until),
        also=tuple(also or ()),
    ).checked()
    if not is_done:
        _print(erasing.survey(settings, asked), as_json=as_json)
        return
    if not reason.strip():
        raise ConfigError("erase: say why, for the record that stays: --reason TEXT")
    with _Bar() as bar:
        report = erasing.erase(settings, asked, reason.strip(), bar.show)
        report = _awaited(settings, report, wait, bar)
    _print(report, as_json=as_json)


def _awaited(settings: Settings, report: Report, wait: float, bar: _Bar) -> Report:
    """Wait until messages are deleted, for so many seconds."""
    ends = time.monotonic() + wait
    while report.state == "waiting" and time.monotonic() < ends:
        time.sleep(min(_LOOK, max(ends - time.monotonic(), 0.0)))
        report = _advanced(settings, report.id)
        done, left = report.deletions["deleted"], report.deletions["waiting"]
        bar.show("messages", done, done + left)
    return report


def _advanced(settings: Settings, id: UUID | None) -> Report:
    from spanpost.runtime import erasing

    assert id is not None
    return erasing.advance(settings, id)


class _Bar:
    """A progress bar on stderr, when a person is watching."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task: Any = None

    def __enter__(self) -> _Bar:
        self._bar.start()
        self._task = self._bar.add_task("tasks", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, place: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=place, completed=done, total=total or None)


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return time_at(text)
    except ValueError:
        raise ConfigError(f"{option} {text[:50]!r}: not a time; write 2026-11-01 or 2026-11-01T12:00:00Z") from None


def _print(report: Report, *, as_json: bool) -> None:
    from msgspec import to_builtins

    if as_json:
        print_json(to_builtins(report))
        return
    from spanpost.cli import erasure_tables

    erasure_tables.print_erasure(report)


def _print_list(settings: Settings, *, as_json: bool) -> None:
    from msgspec import to_builtins

    from spanpost.cli import erasure_tables
    from spanpost.runtime import erasing

    found = erasing.listed(settings, 1000)
    if as_json:
        print_json({"erasures": to_builtins(found)})
    else:
        erasure_tables.print_erasures(found)
