"""``spanpost decide``: answer an agent's question."""

from __future__ import annotations

from typing import Annotated

import typer

from spanpost.cli.approvals import Approval, By, Tenant, Words, Yes, answer
from spanpost.cli.options import DatabaseUrl, DataDir, Json
from spanpost.cli.remote import Url


def decide(
    approval: Approval,
    decision: Annotated[
        str, typer.Argument(metavar="DECISION", help="approve, deny, or one of the options of the question.")
    ],
    by: By = None,
    comment: Words = "",
    is_sure: Yes = False,
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Answer an agent's question. A gateway applies its rules; the database allows everybody who can reach it."""
    answer(approval, decision, "once", by, comment, is_sure, tenant, as_json, url, database_url, data_dir)
