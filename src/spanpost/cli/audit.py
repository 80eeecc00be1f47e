"""``spanpost audit``: who did what, what was recorded, and whether it was changed."""

from __future__ import annotations

import typer

from spanpost.cli.audit_who import who

audit = typer.Typer(
    help="Show who did what; verify, prove and export the sealed log of the audit rows.", no_args_is_help=True
)
audit.command(short_help="Show who did what to a task, or all acts.")(who)
