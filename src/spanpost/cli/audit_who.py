"""``spanpost audit who``: who did what."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanpost.cli import completion
from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, note_read, print_json, settings_of
from spanpost.cli.references import task_at, task_in
from spanpost.cli.remote import Url
from spanpost.model.acts import ContentKind
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from spanpost.model.acts import ActFilter
    from spanpost.store.protocols import Store


def who(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            autocompletion=completion.tasks,
            help="Id of the task. Without it: acts on all tasks and on spanpost itself.",
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option("--person", metavar="NAME", help="Only acts of this person: the identity, email address or name."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only acts from there: slack, api, oidc, local, cli, hook, rule, gateway.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only acts since then: 90d, 12w, 36h, or a time (RFC 3339)."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant, in the database. Default: all.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Maximum number of acts.")
    ] = 200,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show what people, rules, deadlines and programs did to a task and its family, oldest first; without TASK
    the newest acts on everything. Refused acts are shown as well, and who read content where
    `interactions.log_reads` is set.
    """
    from spanpost.cli import listing

    asked = {"person": person, "source": source, "since": listing.time_of(since)}
    if url is not None:
        if tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        found = _at_gateway(url, data_dir, task, asked, limit)
    else:
        settings = settings_of(database_url, data_dir)
        wanted = ask(settings, lambda store: _filter(store, task, tenant, asked))
        note_read(settings, ContentKind.ACTS, tenant=tenant or "", tasks=filter(None, [wanted.task_uid]))
        found = ask(settings, lambda store: _in_database(store, wanted, limit))
    if as_json:
        print_json(found)
        return
    if not found["acts"] and not found["reads"]:
        print("no such acts", file=sys.stderr)
        return
    from spanpost.cli import act_tables

    act_tables.print_acts(found["acts"])
    if found["reads"]:
        print()
        act_tables.print_reads(found["reads"])


def _at_gateway(url: str, data_dir: Any, task: str | None, asked: Mapping[str, Any], limit: int) -> dict[str, Any]:
    from spanpost.cli.remote import Remote

    since = asked["since"]
    words = {**asked, "since": since.isoformat() if since is not None else None}
    with Remote(url, data_dir) as remote:
        if task is not None:
            words["task"] = task_at(remote, task)["uid"]
        acts = remote.items("/api/acts", {**words, "oldest_first": task is not None}, limit)
        del words["source"]
        reads = remote.items("/api/content-reads", words, limit) if asked["source"] is None else []
    return {"acts": acts, "reads": reads}


async def _in_database(store: Store, wanted: ActFilter, limit: int) -> dict[str, Any]:
    from spanpost.tasks.act_json import act_json, read_json

    acts = (await store.acts.listed(wanted, None, limit)).items
    reads = await store.acts.reads(wanted, limit)
    return {"acts": list(map(act_json, acts)), "reads": list(map(read_json, reads))}


async def _filter(store: Store, task: str | None, tenant: str | None, asked: Mapping[str, Any]) -> ActFilter:
    from spanpost.model.acts import ActFilter

    uid = (await task_in(store, tenant, task)).uid if task is not None else None
    given = {name: value for name, value in asked.items() if value is not None}
    return ActFilter(tenant=tenant, task_uid=uid, is_oldest_first=uid is not None, **given)
