"""``spanpost slack``: the workspaces in which the app is installed, and the key of their tokens."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, ask, noted, print_json, say_count, settings_of
from spanpost.model.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from spanpost.runtime.workspaces import Workspaces
    from spanpost.store.protocols import Store

slack = typer.Typer(help="List and remove the workspaces in which the Slack app is installed.", no_args_is_help=True)
T = TypeVar("T")


@slack.command("key")
def new_key(as_json: Json = False) -> None:
    """Make a key that encrypts the tokens of workspaces, and print it. It is kept nowhere."""
    from spanpost.encryption import new_key

    made = new_key()
    if as_json:
        print_json({"key": made})
        return
    print(made)
    print(
        "\nSet SPANPOST_SLACK_OAUTH__KEY to it, the same in all processes that post. It is shown only once.",
        file=sys.stderr,
    )


@slack.command("installations")
def list_installations(
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the workspaces in which the app is or was installed, and their names in routes."""
    shown = _ask(database_url, data_dir, _shown)
    if as_json:
        print_json({"installations": shown})
    elif not shown:
        print("the app is installed nowhere", file=sys.stderr)
    else:
        from spanpost.cli import tables

        tables.print_installations(shown)


@slack.command("remove")
def remove_installation(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The workspace's id (T...), or its name in routes.")],
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a workspace's token. The app stays in the workspace until a person removes it there."""

    from spanpost.runtime.workspaces import BY_HAND

    async def remove(workspaces: Workspaces) -> bool:
        known = {
            name: one.team for one in await workspaces.listed() for name in (one.team, workspaces.name_of(one.team))
        }
        return await workspaces.remove(known.get(team, team), BY_HAND)

    if not _ask(database_url, data_dir, remove):
        raise ConfigError(
            f"slack remove: there is no token of {team!r}; `spanpost slack installations` lists the workspaces"
        )
    say_count("removed", 1, as_json=as_json)


@slack.command("reencrypt")
def reencrypt(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Encrypt again with slack_oauth.key the tokens that a key of slack_oauth.old_keys encrypted; then the
    old keys are not needed.
    """

    async def work(workspaces: Workspaces) -> int:
        if workspaces.encryption is None:
            raise ConfigError("slack_oauth.key is not set: `spanpost slack key` makes one")
        return await workspaces.reencrypt()

    say_count("reencrypted", _ask(database_url, data_dir, work, "reencrypt_slack_tokens"), as_json=as_json)


def _ask(
    database_url: str | None, data_dir: Path | None, question: Callable[[Workspaces], Awaitable[T]], what: str = ""
) -> T:
    from spanpost.runtime.workspaces import workspaces_of

    settings = settings_of(database_url, data_dir)

    async def work(store: Store) -> T:
        workspaces = workspaces_of(settings, store)
        if workspaces is None:
            raise ConfigError(
                "slack_oauth: the app cannot be installed until this section is set; "
                "docs/how-to/install-in-workspaces.md"
            )
        return await question(workspaces)

    return noted(settings, what, "", work) if what else ask(settings, work)


async def _shown(workspaces: Workspaces) -> list[dict[str, Any]]:
    return [
        {
            "team": one.team,
            "team_name": one.team_name,
            "enterprise": one.enterprise,
            "workspace": workspaces.name_of(one.team),
            "tenant": workspaces.tenant_of(one.team),
            "state": "installed" if one.is_there else "removed",
            "is_used": one.is_there and workspaces.takes(one.team, one.enterprise),
            "why": one.why,
            "installed_by": one.by,
            "installed_at": one.installed_at,
            "removed_at": one.removed_at,
            "expires_at": one.expires_at,
            "scopes": list(one.scopes),
        }
        for one in await workspaces.listed()
    ]
