"""``spanpost token``: make, list, rotate and revoke tokens."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

import typer

from spanpost.cli.options import DatabaseUrl, DataDir, Json, print_json, settings_of
from spanpost.cli.remote import HERE
from spanpost.model.access_tokens import OF_NO_TENANT, OF_SENDERS, SCOPES, AccessToken
from spanpost.model.errors import ConfigError
from spanpost.settings import URL_VARIABLE

token = typer.Typer(help="Make, list, rotate and revoke tokens.", no_args_is_help=True)

#: Tokens last at most this long; longer ones would outlive the people who know of them.
_LONGEST = timedelta(days=3660)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.", show_default=False)]


@token.command("new", short_help="Make a token.")
def new(
    as_json: Json = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Keep its hash in the database under this name; gateways know it in seconds."
        ),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Tenant of the token.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="With --name: what it may do; may be repeated: send, control, alerts, metrics, route, viewer, "
            "operator, approver, auditor, or act: with one action (act:approve). Default: send, control and alerts.",
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="With --name: how long it is valid: 36h, 90d, 12w.")
    ] = "",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token and print it. It is shown only once, and kept nowhere: the database has its hash.

    Without --name, it prints the entry for a gateway's settings instead, and keeps nothing.
    """
    from spanpost.http.tokens import hash_of, new_token

    for option, text in (("--name", name), ("--tenant", tenant)):
        _named(option, text)
    made = new_token()
    if name is not None:
        from spanpost.runtime import token_upkeep

        scopes = _scopes(scope)
        kept = token_upkeep.make(
            settings_of(database_url, data_dir),
            _new(name, None if scopes <= {*map(str, OF_NO_TENANT)} else tenant, scopes, made),
            _age("--expires", expires) if expires else None,
        )
        _show(kept, made, as_json=as_json)
        return
    if scope or expires:
        raise ConfigError("token new: --scope and --expires belong to a token in the database: give it a --name")
    if as_json:
        print_json({"tenant": tenant, "token": made, "sha256": hash_of(made)})
        return
    print(f"token   {made}\nsha256  {hash_of(made)}")
    print(
        "\nGive the token to the sender: OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer <token>'. It is "
        "shown only once.\n"
        "Give the hash to the gateway, in spanpost.toml:\n\n"
        f'  [[gateway.tokens]]\n  tenant = {json.dumps(tenant)}\n  sha256 = ["{hash_of(made)}"]',
        file=sys.stderr,
    )


@token.command("list", short_help="List the tokens of the database.")
def listed(
    as_json: Json = False,
    shows_all: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the tokens of the database by name, with scopes, expiry and last use. Those of the settings are not
    listed.
    """
    from spanpost.cli import tables
    from spanpost.runtime import token_upkeep

    found = token_upkeep.listed(settings_of(database_url, data_dir), is_valid=not shows_all)
    if as_json:
        print_json({"tokens": [_shown(one) for one in found]})
    elif found:
        tables.print_access_tokens(found, datetime.now(UTC))
    else:
        print("no tokens in the database: `spanpost token new --name NAME` makes one", file=sys.stderr)


@token.command("rotate", short_help="Replace a token by a new one.")
def rotate(
    name: Name,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="TIME", help="How long the old one stays valid: 1h, 2d; 0: not at all.")
    ] = "1d",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make a new token with the name, tenant, scopes and lifetime of a valid one, and print it. The old one stays
    valid for the overlap.
    """
    from spanpost.http.tokens import new_token
    from spanpost.runtime import token_upkeep

    made, still = new_token(), timedelta(0) if overlap == "0" else _age("--overlap", overlap)
    kept = token_upkeep.rotate(settings_of(database_url, data_dir), name, made, still)
    _show(kept, made, as_json=as_json)
    if not as_json:
        print(f"The old one is valid for {overlap} more." if still else "The old one is revoked.", file=sys.stderr)


@token.command("revoke", short_help="Revoke a token.")
def revoke(name: Name, as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Revoke all valid tokens of a name. Gateways refuse them within seconds, and end their streams and waits."""
    from spanpost.runtime import token_upkeep

    count = token_upkeep.revoke(settings_of(database_url, data_dir), name)
    if as_json:
        print_json({"revoked": count})
    else:
        print(f"revoked: {count}")


@token.command("local")
def local_token(
    as_json: Json = False,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", envvar=URL_VARIABLE, help="Address of the gateway.")
    ] = HERE,
    data_dir: DataDir = None,
) -> None:
    """Print this machine's token, which opens the board and the API of a local gateway that requires no
    other token.
    """
    from spanpost.cli.remote import token_here
    from spanpost.runtime.local_token import link

    found = token_here(data_dir)
    if not found:
        raise ConfigError(
            "this machine has no token yet: `spanpost run` makes it beside its data directory if the API requires no "
            "other token; --data-dir names that directory"
        )
    if as_json:
        print_json({"token": found, "url": link(url, found)})
        return
    print(found)
    print(f"\nopen the board: {link(url, found)}", file=sys.stderr)


def _scopes(words: list[str] | None) -> frozenset[str]:
    scopes = frozenset(words if words else map(str, OF_SENDERS))
    if unknown := sorted(scopes - {*SCOPES}):
        raise ConfigError(f"--scope {unknown[0][:50]}: there is no such scope; there is {', '.join(SCOPES)}")
    alone = scopes & {*map(str, OF_NO_TENANT)}
    if alone and alone != scopes:
        raise ConfigError(
            f"--scope {sorted(alone)[0]}: it belongs to no tenant, the other scopes do: make a token of its own for it"
        )
    return scopes


def _named(option: str, text: str | None) -> None:
    if text is not None and not (0 < len(text.strip()) <= 200 and text.isprintable() and text == text.strip()):
        raise ConfigError(f"{option}: write 1 to 200 printable characters, without blanks around them")


def _new(name: str, tenant: str | None, scopes: frozenset[str], made: str) -> AccessToken:
    from spanpost.http.bearer import digest_of
    from spanpost.store.system_user import system_user

    now = datetime.now(UTC)
    return AccessToken(
        id=uuid4(), name=name, tenant=tenant, scopes=scopes, digest=digest_of(made), made_by=system_user(), made_at=now
    )


def _age(option: str, text: str) -> timedelta:
    from spanpost.cli import tables

    found = tables.age(text, option)
    if found > _LONGEST:
        raise ConfigError(f"{option} {text}: at most ten years")
    return found


def _shown(one: AccessToken) -> dict[str, Any]:
    """Return a token for programs, without its hash."""
    names = ("id", "name", "tenant", "made_by", "made_at", "expires_at", "revoked_at", "used_at")
    return {name: getattr(one, name) for name in names} | {"scopes": sorted(one.scopes)}


def _show(kept: AccessToken, made: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_shown(kept), "token": made})
        return
    print(made)
    until = f"until {kept.expires_at:%Y-%m-%d %H:%M} UTC" if kept.expires_at is not None else "until it is revoked"
    whose = f"tenant {kept.tenant}" if kept.tenant is not None else "no tenant"
    print(
        f"\nIt is shown only once. {kept.name}: {', '.join(sorted(kept.scopes))}; {whose}; valid {until}.",
        file=sys.stderr,
    )
