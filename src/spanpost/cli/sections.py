"""The help of ``spanpost``: commands in sections, those that a newcomer needs first."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperGroup

#: Titles, and commands in the order in which they are listed. A test holds that each command stands in one.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "Begin": ("run", "demo", "check"),
    "Look": ("tasks", "show", "top", "watch", "stats", "spending"),
    "Answer and act": (
        "approvals", "decide", "start", "cancel", "pause", "resume", "retry", "message", "mute", "unmute", "dismiss",
        "rate", "alerts",
    ),
    "Follow": ("emit", "hook", "mcp"),
    "Try without a server": ("replay", "preview", "redact"),
    "Operate": ("deliveries", "quarantine", "db", "archive", "erase", "audit", "token", "slack"),
}  # fmt: skip


class Sections(TyperGroup):
    """The commands, listed in sections."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the sections; those of none come last."""
        known = [name for names in SECTIONS.values() for name in names]
        return sorted(super().list_commands(ctx), key=lambda name: known.index(name) if name in known else len(known))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        names = self.list_commands(ctx)
        listed = {name for section in SECTIONS.values() for name in section}
        sections = {**SECTIONS, "Other": tuple(name for name in names if name not in listed)}
        limit = formatter.width - 6 - max(map(len, names))
        for title, section in sections.items():
            commands = [(name, self.get_command(ctx, name)) for name in section if name in names]
            rows = [(name, one.get_short_help_str(limit)) for name, one in commands if one is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
