"""Tables with one line a row: columns that leave when the terminal is narrow, and texts that are cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spanpost.sinks.labels import StatusLabel
from spanpost.text.sanitise import line

#: Terminal names of colours that differ from ours.
_COLOURS: Final = {"grey": "bright_black"}
#: Longest text in a cell, characters; and width of a line that is not cut, for pipes.
_LONGEST: Final = 200
WHOLE: Final = 4000
#: Makes emoji of signs that are one cell wide without it. Terminals disagree about the width of the two together.
_EMOJI: Final = "\N{VARIATION SELECTOR-16}"
#: Digits of a key that are shown for it: `spanpost.cli.references` finds it by them.
_SHORT: Final = 8
_ASCII: Final = str.maketrans({"–": "-", "└": "`", "…": "~", "·": "|", "│": "|", "✗": "x"})


class Column(NamedTuple):
    """A column: its title, and the width of the terminal from which it is shown."""

    title: str
    #: Terminals of fewer cells do not show it.
    at: int = 0
    #: It takes what the other columns leave, and is cut.
    is_flexible: bool = False
    #: Most cells of a column that is not flexible.
    most: int = 0
    is_right: bool = False


def out() -> Console:
    """Return the console for data: stdout, as wide as the terminal, not cut in a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WHOLE)


def speaks_ascii() -> bool:
    """Return whether ASCII is all that the terminal can show."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return os.environ.get("TERM") in ("dumb", "linux") or not encoding.startswith("utf")


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[Text | str]], width: int, *, is_ascii: bool, expand: bool = False
) -> Table:
    """Return a table of one line a row for a terminal of that width. A column without any text is left out.

    In ASCII a status is its word, in place of its sign.
    """
    gap = 1 if width < 100 else 2
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0), expand=expand)
    shown = [
        n
        for n, column in enumerate(columns)
        if (column.title or not is_ascii)
        and (column.at <= width or (is_ascii and column.title == "status"))
        and (not rows or any(str(row[n]) for row in rows))
    ]
    for n in shown:
        column = columns[n]
        table.add_column(
            column.title,
            overflow="ellipsis",
            no_wrap=not column.is_flexible,
            max_width=min(column.most, width // 6) if column.most and width < WHOLE else None,
            ratio=1 if column.is_flexible and expand else None,
            justify="right" if column.is_right else "left",
        )
    for row in rows:
        table.add_row(*(_cell(row[n], is_ascii=is_ascii) for n in shown))
    return table


def _cell(said: Text | str, *, is_ascii: bool) -> Text:
    text = Text(line(said, _LONGEST)) if isinstance(said, str) else said.copy()
    if is_ascii:
        text = in_ascii(text)
    text.no_wrap, text.overflow = True, "crop" if is_ascii else "ellipsis"
    return text


def in_ascii(text: Text) -> Text:
    """Return a text with ASCII for the signs that spanpost draws; all else that is not ASCII is a question mark."""
    text = text.copy()
    plain = text.plain.translate(_ASCII)
    text.plain = plain.encode("ascii", "replace").decode()  # as long as before: styles keep their places
    return text


def print_fitted(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text | str]],
    *,
    is_ascii: bool = False,
    console: Console | None = None,
) -> None:
    """Print a table of one line a row, in ASCII if it is asked for or all that the terminal can show."""
    console = console or out()
    console.print(fitted(columns, rows, console.width, is_ascii=is_ascii or speaks_ascii()))


def signed(shown: StatusLabel, word: str) -> tuple[Text, Text]:
    """Return the sign of a status, as wide in every terminal, and its word."""
    style = _COLOURS.get(shown.colour, shown.colour)
    return Text(shown.emoji.removesuffix(_EMOJI), style=style), Text(line(word, 30), style=style)


def time_of(at: datetime | None) -> str:
    """Return a time in UTC, to the second; empty when unknown."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short(key: object) -> str:
    """Return the first digits of a key, by which commands find it."""
    return str(key).replace("-", "")[:_SHORT]


def ago(since: datetime | None, now: datetime) -> str:
    """Return how long ago that was, in its largest unit: 42s, 3m, 2h, 4d; empty when unknown."""
    return span(now - since) if since is not None else ""


def span(took: timedelta) -> str:
    """Return a duration in its largest unit; seconds are rounded as everywhere (`labels.elapsed`)."""
    seconds = max(round(took.total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size * (2 if unit == "h" else 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
