"""A Slack to test against: it behaves as the real one does, as far as that is known, and fails as it is set
to.

    async with FakeSlack(faults=Faults({"posts": {Fault.RESET_AFTER: 0.1}}, seed=7)) as slack:
        sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url))

``python -m spanpost.testing.fake_slack`` serves it to other processes. Needs ``pip install
'spanpost[slack]'``.
"""

from __future__ import annotations

from spanpost.testing.fake_slack.channels import Channel
from spanpost.testing.fake_slack.faults import Fault, Faults
from spanpost.testing.fake_slack.server import TOKEN, FakeRequest, FakeSlack
from spanpost.testing.fake_slack.tiers import TIERS, Early, Tiers
from spanpost.testing.fake_slack.workspace import SCOPES, Workspace

__all__ = [
    "SCOPES",
    "TIERS",
    "TOKEN",
    "Channel",
    "Early",
    "FakeRequest",
    "FakeSlack",
    "Fault",
    "Faults",
    "Tiers",
    "Workspace",
]
