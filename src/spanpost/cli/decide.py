"""``spanpost decide``: answer an agent's question, with one of the options that it gave if it gave any."""

from __future__ import annotations

from typing import Annotated

import typer

from spanpost.cli.approvals import Approval, By, Tenant, Words, Yes, answer
from spanpost.cli.options import DatabaseUrl, DataDir, Json
from spanpost.cli.remote import Url


def decide(
    approval: Approval,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="approve, deny, or one of the options that the agent gave.")],
    by: By = None,
    comment: Words = "",
    is_sure: Yes = False,
    tenant: Tenant = None,
    as_json: Json = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Answer an agent's question. At a gateway its rules hold; in the database whoever reaches it may."""
    answer(approval, decision, by, comment, is_sure, tenant, as_json, url, database_url, data_dir)
