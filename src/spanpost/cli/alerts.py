"""``spanpost alerts``: list, acknowledge and silence alerts at a gateway."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import uuid4

import typer

from spanpost.cli.options import DataDir, Json, print_json
from spanpost.cli.remote import HERE, Remote, Url

alerts = typer.Typer(help="List, acknowledge and silence alerts.", no_args_is_help=True)

AlertId = Annotated[str, typer.Argument(metavar="ALERT", help="Id of the alert, as `list` shows it.")]
Comment = Annotated[str, typer.Option("--comment", metavar="TEXT", help="Why; kept with the act.")]


@alerts.command("list")
def listed(
    as_json: Json = False,
    state: Annotated[str, typer.Option("--state", metavar="STATE", help="firing, resolved, or all.")] = "firing",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="Maximum number.")] = 50,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """List alerts, newest first."""
    with Remote(url or HERE, data_dir) as remote:
        found = remote.get("/api/alerts", {"state": state, "limit": limit})["items"]
    if as_json:
        print_json({"alerts": found})
        return
    from spanpost.cli.columns import short

    if not found:
        print("no such alerts", file=sys.stderr)
    for alert in found:
        print(f"{short(alert['id'])}  {_line(alert)}")


@alerts.command()
def ack(
    alert: AlertId, comment: Comment = "", as_json: Json = False, url: Url = None, data_dir: DataDir = None
) -> None:
    """Say that you look after an alert: it no longer mentions people."""
    _act(alert, "acknowledge", {"comment": comment}, "acknowledged", as_json, url, data_dir)


@alerts.command()
def silence(
    alert: AlertId,
    span: Annotated[
        str, typer.Option("--for", metavar="TIME", help="30m, 4h, 2d, or morning: until tomorrow at nine.")
    ] = "1h",
    comment: Comment = "",
    as_json: Json = False,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Silence an alert in the Alertmanager that it came from."""
    _act(alert, "silence", {"for": span, "comment": comment}, "silenced", as_json, url, data_dir)


@alerts.command()
def unsilence(
    alert: AlertId, comment: Comment = "", as_json: Json = False, url: Url = None, data_dir: DataDir = None
) -> None:
    """End the silence of an alert."""
    _act(alert, "unsilence", {"comment": comment}, "no longer silenced", as_json, url, data_dir)


def _act(
    alert: str, verb: str, body: Mapping[str, Any], done: str, as_json: bool, url: str | None, data_dir: Any
) -> None:
    from spanpost.cli.references import key_in
    from spanpost.cli.remote import path_of

    with Remote(url or HERE, data_dir) as remote:
        alert = key_in(lambda: remote.get("/api/alerts", {"state": "all", "limit": 500})["items"], alert, "name")
        answer = remote.post(f"/api/alerts/{path_of(alert)}/{verb}", body, str(uuid4()))
    if as_json:
        print_json(answer)
    else:
        print(done)


def _line(alert: Mapping[str, Any]) -> str:
    from spanpost.text.sanitise import line

    said = [line(alert["severity"], 20), line(alert["name"], 80), line(alert["summary"], 120)]
    if alert["acknowledged_by"]:
        said.append(f"acknowledged by {line(alert['acknowledged_by'], 60)}")
    silence = alert["silence"]
    if silence is not None and silence["state"] in ("active", "ending"):
        said.append(f"silenced by {line(silence['by'], 60)} until {silence['until']}")
    return " · ".join(filter(None, said))
