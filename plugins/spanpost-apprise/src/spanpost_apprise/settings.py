"""The settings of the sink."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from spanpost import SinkSettings


class AppriseSettings(SinkSettings):
    """Notifications by `apprise`.

    Its services cannot edit messages: only checkpoints are sent, by default ends and questions.
    """

    urls: dict[str, SecretStr] = Field(
        min_length=1,
        description="Services by a name of yours: `{'ops': 'mailto://...'}`. Each is a secret. A route's "
        "`address` is such a name; "
        "without one all are notified.",
    )
    verbosity: Literal["live", "milestones", "final", "mute"] = Field(
        default="final", description="How much is sent if the route does not say."
    )
