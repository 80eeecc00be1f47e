"""What an erasure found or did, as tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from spanpost.cli.columns import out, time_of
from spanpost.cli.tables import titled
from spanpost.text.sanitise import line

if TYPE_CHECKING:
    from spanpost.store.erasing.run import Erasure, Report


def print_erasure(report: Report) -> None:
    """Print the places of an erasure, and what an operator must know or do."""
    table = titled("where", "erased or changed" if report.is_done else "would be erased or changed")
    for place, count in report.places.items():
        table.add_row(place, f"{count:,}")
    out().print(table)
    say = _said(report)
    if say:
        print("\n".join(say), file=sys.stderr)


def _said(report: Report) -> list[str]:
    said = []
    found = report.found
    if found is not None:
        spelled = dict.fromkeys([*found.ids, *found.names, *found.also])
        said.append(f"looked for: {', '.join(line(one, 80) for one in spelled)}")
        if found.shared:
            named = ", ".join(line(one, 80) for one in found.shared)
            said.append(f"other people have this name too, so it is replaced beside the person's acts only: {named}")
    if not report.is_done:
        return [*said, "nothing was changed: give --yes and --reason TEXT to erase"]
    if waiting := report.deletions.get("waiting"):
        said.append(f"{waiting:,} messages wait to be deleted by a running gateway; see spanpost erase --list")
    if refused := report.deletions.get("refused"):
        why = ", ".join(line(reason, 80) for reason in report.refusals)
        said.append(
            f"{refused:,} messages could not be deleted ({why}): see spanpost deliveries list --dead, and delete them"
            " by hand, or mend the cause and retry"
        )
    return [*said, f"erasure {report.id}: {report.state}"]


def print_erasures(found: Sequence[Erasure]) -> None:
    """List erasures."""
    table = titled("erasure", "started", "by", "what", "why", "state", "rows and messages")
    for one in found:
        what = ", ".join([*one.kinds, *([line(one.tenant, 40)] if one.tenant else [])])
        cells = (str(one.id), time_of(one.started_at), one.actor, what, one.reason, one.state)
        table.add_row(*(Text(line(cell, 80)) for cell in cells), f"{sum(one.places.values()):,}")
    out().print(table)
