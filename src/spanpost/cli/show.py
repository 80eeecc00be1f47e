"""``spanpost show``: everything about one task, in the database or at a gateway."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from spanpost.cli.acts import TaskRef, TaskTenant
from spanpost.cli.options import Ascii, DatabaseUrl, DataDir, Json, print_json, settings_of
from spanpost.cli.remote import Url
from spanpost.model.errors import ConfigError


def show(
    task: TaskRef,
    entries: Annotated[
        int, typer.Option("--entries", metavar="N", min=0, max=10_000, help="Newest entries of the timeline.")
    ] = 20,
    tenant: TaskTenant = None,
    is_ascii: Ascii = False,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show a task: what it waits for or failed with, the tasks below it, its questions, cost, links and timeline."""
    from spanpost.cli import looking

    if url is not None:
        if tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        found = looking.whole_at(url, data_dir, task, entries)
    else:
        settings = settings_of(database_url, data_dir)
        whose = tenant if tenant is not None else settings.intake.tenant
        found = looking.whole_in(settings, whose, task, entries)
    if as_json:
        print_json(_json(found))
        return
    from spanpost.cli import whole_task

    whole_task.print_whole(found, is_ascii=is_ascii)


def _json(found: Any) -> dict[str, Any]:
    """Return the API's task, with the tasks below it and the timeline."""
    return {**found.task, "below": found.below, "timeline": found.timeline}
