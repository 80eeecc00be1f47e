"""The output of a benchmark: rows as JSON, or as a table in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def tell(rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str], *, as_json: bool, form: str = ".0f") -> None:
    """Print rows. `headings` are the columns of the table by key; the first is text, the others numbers in
    this form.
    """
    if as_json:
        print(json.dumps(rows))
        return
    print(f"| {' | '.join(headings.values())} |\n|{'---|' * len(headings)}")
    for row in rows:
        first, *figures = (row[key] for key in headings)
        print(f"| {first} | {' | '.join(format(figure, form) for figure in figures)} |")
