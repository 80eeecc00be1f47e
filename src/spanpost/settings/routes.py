"""Settings of the routing table, and of what is still news."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from spanpost.settings.section import Duration, Section, Zone
from spanpost.text.locales import Language


def _is_something(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value or (not isinstance(value, str) and any(not one for one in value)):
        raise ValueError("matches nothing: name what is taken, or leave it out")
    return value


#: A word or a list of words; ``*`` stands for anything.
Words: TypeAlias = Annotated[str | tuple[str, ...], AfterValidator(_is_something)]


class RouteSettings(Section):
    """Where news of some tasks goes: the first route of a sink whose conditions are all met. Not given: takes any.

    A condition is a word, or a list of which one must fit; `*` in it stands for anything.
    """

    enabled: bool = Field(
        default=True, description="`false`: it takes its tasks, and tells nothing of them. Nothing else is touched."
    )
    sink: str = Field(min_length=1, description="Sink that it leads to, e.g. `console` or `slack`.")
    address: str = Field(
        default="",
        description="Where in the sink, e.g. `#deploys`, or `acme/#deploys` in the workspace `acme`; empty: the sink's own default.",
    )
    tenant: Words | None = Field(default=None, description="Takes tasks of this tenant.")
    agent: Words | None = Field(default=None, description="Takes tasks of the agent with this name.")
    topic: Words | None = Field(default=None, description="Takes tasks with this `agent.topic`.")
    environment: Words | None = Field(default=None, description="Takes tasks of this `deployment.environment.name`.")
    service: Words | None = Field(default=None, description="Takes tasks of this `service.name`.")
    repo: Words | None = Field(default=None, description="Takes tasks with this `agent.repo`.")
    attributes: dict[str, Words] = Field(
        default={},
        description='Takes tasks with these attributes, of their spans or their resource: `{"team.name" = "payments"}`. What is '
        "named here is kept with the task, 200 characters of it; no other attribute is.",
    )
    status: Words | None = Field(default=None, description="Takes tasks in this status, beside other routes.")
    severity: Literal["warning", "error"] | None = Field(
        default=None,
        description="Takes tasks from when they are so grave, and of their news what is, beside other routes. `warning`: it waits, "
        "stalls, its context fills, or a part failed; `error`: it failed.",
    )
    cost_usd: Annotated[Decimal, Field(gt=0)] | None = Field(
        default=None, description="Takes tasks from when they have cost so many dollars, beside other routes."
    )
    verbosity: Literal["live", "milestones", "final", "mute"] | None = Field(
        default=None, description="How much is let through; not given: as the sink's own settings say."
    )
    interval: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="Between two milestones of one task, at least; of those that come earlier the newest is told when its time has come. "
        "Not given: as the sink's own settings say.",
    )
    mention: tuple[str, ...] | None = Field(
        default=None,
        description="Who is mentioned when a task fails or asks: ids as the sink knows them, in Slack of people (`U...`) and groups (`S...`). "
        "Not given: as the sink's own settings say.",
    )
    prefix: str = Field(default="", max_length=40, description="Stands before each task's name, e.g. `[prod]`.")
    fallback: str | None = Field(
        default=None, description="Where deliveries go that the address refuses; not given: as the sink's own settings say."
    )
    content: bool | None = Field(
        default=None,
        description="Show what people and models said: prompts, and tool arguments as questions have them in their details. Not given: "
        "as the sink's own settings say.",
    )
    language: Language | None = Field(
        default=None,
        description="What spanpost itself says is said in it: `en` (English) or `ko` (Korean). Agents' own words stay as they are. Not given: "
        "as the sink's own settings say.",
    )
    digest: Literal["hourly", "daily"] | None = Field(
        default=None,
        description="One message for all its tasks of an hour or a day, in place of a message each: how many ended how, which failed, what it "
        "took, what waits. Questions and alerts come at once all the same.",
    )
    digest_at: str = Field(default="09:00", description="When a day of a daily digest begins, and its message comes: `HH:MM`.")
    timezone: Zone = Field(default="UTC", description="IANA name of the time zone of `digest_at`: `Asia/Seoul`.")
    digest_failures: bool = Field(default=False, description="Beside a digest each task that fails has its own message, at once.")
    board: bool = Field(
        default=False,
        description="One message that lists what is under way on this route and is edited: what needs a person first.",
    )
    board_interval: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(seconds=10),
        description="The board is looked at so often, and edited where it has changed.",
    )
    dry_run: bool = Field(default=False, description="Send nothing: what would be is written down, as without a token.")

    @field_validator("digest_at")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if not re.fullmatch(r"(?:[01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f"{value!r} is no time of a day: write HH:MM, such as `09:00`")
        return value

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        passing = [name for name in ("status", "severity", "cost_usd") if getattr(self, name) is not None]
        if passing and (self.digest or self.board):
            what = "digest" if self.digest else "board"
            raise ValueError(
                f"{what}: not with {passing[0]}, which changes while a task runs; ask for its agent, topic or another field"
            )
        return self


class NotificationSettings(Section):
    """What is still news."""

    max_age: Duration = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="News older than this is recorded and not posted. Seconds, or ISO 8601 (`PT15M`).",
    )
