"""One alerting rule, with a case in which it fires and one in which it stays quiet."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Series of a test: name with labels, to values in promtool's notation.
Series = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alerting rule."""

    name: str
    severity: str
    expr: str
    hold: str
    summary: str
    means: str
    todo: tuple[str, ...]
    dashboard: str
    fires: Series
    quiet: Series
    at: str = "1h"
    #: Labels of the alert in the case that fires, beside severity.
    labels: dict[str, str] = field(default_factory=dict)
    #: Status of the agent's task that the alert concerns: if exactly one task has it, the alert is posted in
    #: its thread.
    about: str = ""

    @property
    def page(self) -> str:
        """Name of the runbook page."""
        words = "".join(f"-{c.lower()}" if c.isupper() else c for c in self.name.removeprefix("Spanpost"))
        return words.strip("-")
