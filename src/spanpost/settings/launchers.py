"""Settings of the section `launchers`: launchers of work, retries of tasks, and work that the end of a task
starts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from spanpost.launchers import registry
from spanpost.launchers.base import LauncherSettings
from spanpost.model.errors import ConfigError
from spanpost.routing.launch_orders import FIELDS, Launches, OnEnd, Retry, Shared
from spanpost.routing.routes import Weekday
from spanpost.routing.schedules import Schedule
from spanpost.routing.summaries import WEEK
from spanpost.settings.conditions import ConditionSettings, Words
from spanpost.settings.section import Duration, Section, TimeOfDay, Zone
from spanpost.text.templates import mistake, places

Name = Annotated[str, StringConstraints(min_length=1, max_length=60, strip_whitespace=True)]
#: Prefixes of placeholders in a rule's texts, besides the fields of a task.
_TABLES: Final = ("result.", "link.")


class RetrySettings(ConditionSettings, Retry):
    """The launcher that retries a task: the first whose conditions the task meets. Without one there is no
    *Retry*.
    """

    launcher: Name = Field(description="Its name in `launchers.named`.")
    type: Words | None = Field(default=None, description="Matches tasks with this `agent.task.type`.")


class OnEndSettings(ConditionSettings, OnEnd):
    """Work that the end of a task starts, once for each of its runs. A condition is a word, or a list of
    words of which one must match.
    """

    name: Name = Field(
        description="Name of the rule in rows. A renamed rule is a new rule, which has started nothing yet."
    )
    type: Words | None = Field(default=None, description="Matches tasks with this `agent.task.type`.")
    status: tuple[Literal["complete", "error", "cancelled"], ...] = Field(
        default=("complete",), min_length=1, description="How the task must have ended."
    )
    parts: bool = Field(
        default=False, description="Apply to tasks that another task started as well; otherwise only to root tasks."
    )
    after_all: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        default=(),
        max_length=20,
        description="Start once when a task of each of these agents has ended, in any order. Their tasks share the "
        "value of `per`, and each value starts once. Not given: each end starts.",
    )
    per: Shared = Field(
        default="caused_by",
        description="What the tasks of `after_all` share: `caused_by` (the task whose end started them), `session_id` "
        "or `topic`. Tasks without it start nothing.",
    )
    within: Duration = Field(
        default=OnEnd.within,
        gt=timedelta(0),
        le=timedelta(days=30),
        description="How long before the last end a task of `after_all` may have begun.",
    )
    start: tuple[Name, ...] = Field(min_length=1, description="Names of the launchers to start.")
    text: str = Field(
        default="{name}",
        max_length=4_000,
        description=f"The work to do. Placeholders: {', '.join(f'`{{{name}}}`' for name in FIELDS)}, `{{error}}`, "
        f"`{{result.<name>}}`, `{{link.<name>}}`.",
    )
    parameters: dict[str, str] = Field(
        default={}, description="Parameters of the launchers by name; placeholders as in `text`."
    )

    @field_validator("text", "parameters")
    @classmethod
    def _are_templates(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for text in [value] if isinstance(value, str) else value.values():
            if why := mistake(text):
                raise ValueError(why)
            for place in places(text):
                if place not in (*FIELDS, "error") and not place.startswith(_TABLES):
                    raise ValueError(f"there is no {{{place}}}; there are {', '.join((*FIELDS, 'error', *_TABLES))}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.after_all and self.agent is not None:
            raise ValueError("`after_all` names the agents: leave `agent` out")
        return self


class ScheduleSettings(Section, Schedule):
    """Work that starts by the clock, once at each time however many gateways there are: `every` so often, or `at`
    times of day. After a time without a gateway, the last missed time alone is made up for, within `max_age` of it.
    """

    name: Name = Field(
        description="Name of the schedule in rows, different from those of rules. A renamed schedule is new."
    )
    start: tuple[Name, ...] = Field(min_length=1, description="Names of the launchers to start.")
    text: str = Field(default="", max_length=4_000, description="The work to do; empty: the name.")
    parameters: dict[str, str] = Field(default={}, description="Parameters of the launchers by name.")
    tenant: str | None = Field(
        default=None, min_length=1, description="Tenant of the work; not given: `intake.tenant`."
    )
    every: Duration | None = Field(
        default=None,
        ge=timedelta(minutes=1),
        le=timedelta(days=1),
        description="Start so often, from midnight UTC: `10m`, `6h`. A day holds it without a rest.",
    )
    at: tuple[TimeOfDay, ...] = Field(
        default=(), max_length=50, description='Start at these times of day, in `timezone`: `["07:30", "18:00"]`.'
    )
    days: tuple[Weekday, ...] = Field(
        default=WEEK, min_length=1, description="Days of `at`; not given: each day of the week."
    )
    timezone: Zone = Field(default="UTC", description="IANA name of the time zone of `at`: `Asia/Seoul`.")

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        if (self.every is None) is not bool(self.at):
            raise ValueError("give either `every` or `at`")
        if self.every is not None and timedelta(days=1) % self.every:
            raise ValueError("`every`: a day must hold it without a rest, as it does `10m`, `1h` and `6h`")
        return self


class LaunchersSettings(Section, Launches):
    """Launchers start work: by *Retry*, by `/agents start`, by webhooks, and when a task ends."""

    named: dict[str, dict[str, Any]] = Field(
        default={},
        description="The launchers, each a `[launchers.named.<name>]` with its `kind` (`command`, `webhook`, `celery`, "
        "...) and the settings of that kind.",
    )
    retries: tuple[RetrySettings, ...] = Field(
        default=(), description="Launchers that retry tasks; each a `[[launchers.retries]]` (below)."
    )
    rules: tuple[OnEndSettings, ...] = Field(
        default=(), description="Work that the end of a task starts; each a `[[launchers.rules]]` (below)."
    )
    schedules: tuple[ScheduleSettings, ...] = Field(
        default=(), description="Work that starts by the clock; each a `[[launchers.schedules]]` (below)."
    )
    max_depth: int = Field(
        default=Launches.max_depth,
        ge=1,
        le=100,
        description="Maximum length of a chain of tasks that rules start one after another; nothing is started "
        "beyond it.",
    )
    max_hourly: int = Field(default=Launches.max_hourly, ge=1, description="Starts allowed per rule and hour.")
    max_age: Duration = Field(
        default=Launches.max_age,
        gt=timedelta(0),
        description="Maximum delay after which a rule or a schedule still starts work: from the end of a task until "
        "that end is received, or from a schedule's time.",
    )

    @field_validator("named")
    @classmethod
    def _are_launchers(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            if not registry.NAME.fullmatch(name) or len(name) > 60:
                raise ValueError(
                    f"{name[:60]!r}: a name is lower-case words of letters and digits, joined by single - or _"
                )
        return {name: {**said, **_rules_of(_settings_of(name, said))} for name, said in value.items()}

    @model_validator(mode="after")
    def _fit(self) -> LaunchersSettings:
        for section, names in (
            *((f"retries number {i}", (one.launcher,)) for i, one in enumerate(self.retries, 1)),
            *((f"rules number {i}", one.start) for i, one in enumerate(self.rules, 1)),
            *((f"schedules number {i}", one.start) for i, one in enumerate(self.schedules, 1)),
        ):
            for name in names:
                if name not in self.named:
                    known = ", ".join(sorted(self.named)) or "none"
                    raise ValueError(f"{section}: there is no launcher {name!r} in launchers.named (known: {known})")
        rules = [*(rule.name for rule in self.rules), *(one.name for one in self.schedules)]
        if len(set(rules)) < len(rules):
            raise ValueError(
                "two rules or schedules have one name; the name identifies what was started, so give each its own"
            )
        return self

    def opened(self) -> dict[str, tuple[str, LauncherSettings]]:
        """Return kind and settings of the enabled launchers, by name."""
        said = {name: self.named[name] for name in sorted(self.launchers)}
        return {name: (str(one["kind"]), _settings_of(name, one)) for name, one in said.items()}


def _rules_of(settings: LauncherSettings) -> dict[str, Any]:
    """Return the settings of every kind of launcher, by which `Launches` judges."""
    return {"enabled": settings.enabled, "parameters": settings.parameters}


def _settings_of(name: str, said: dict[str, Any]) -> LauncherSettings:
    """Return a launcher's settings. Raises ValueError that names the field and never the value, which may
    be a secret.
    """
    kind = said.get("kind")
    if not isinstance(kind, str) or not kind:
        raise ValueError(
            f"{name}.kind: say which kind of launcher it is ({', '.join(registry.kinds()) or 'none is installed'})"
        )
    try:
        model = registry.find(kind).settings
        made: LauncherSettings = model(**{key: one for key, one in said.items() if key != "kind"})
    except ConfigError as error:
        raise ValueError(f"{name}.kind: {error}") from None
    except ValidationError as error:
        item = error.errors(include_input=False, include_url=False)[0]
        where = ".".join((name, *map(str, item["loc"])))
        raise ValueError(f"{where}: {item['msg'].removeprefix('Value error, ')}") from None
    return made
