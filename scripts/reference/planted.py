"""The planted defects: `tests/planted_defects.toml`, and what `scripts/plant-defects` found of them."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from reference.proofs import TESTS, cell, folded

DEFECTS, RESULTS = TESTS / "planted_defects.toml", TESTS / "planted_defects.json"


def planted() -> dict[str, list[dict[str, str]]]:
    """Return the defects by area."""
    return dict(tomllib.loads(DEFECTS.read_text()))


def found() -> dict[str, dict[str, Any]]:
    """Return the last result of each defect; `found_by` is empty for one that no test noticed."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def section() -> str:
    """Return the section of the page."""
    areas, known = planted(), found()
    names = [one["name"] for defects in areas.values() for one in defects]
    tried = [name for name in names if name in known]
    parts = [
        "## Planted defects",
        "A test that cannot fail proves nothing. `scripts/plant-defects` plants the defects of "
        "[`tests/planted_defects.toml`](../../tests/planted_defects.toml) one by one, and says which test finds each. "
        "They were written after reading the code, before any test was asked, and none is equivalent to the code that "
        "it replaces.",
    ]
    if len(tried) < len(names):
        parts.append(
            f"**{len(names) - len(tried)} of {len(names)} have no recorded result**, and count neither as found nor "
            "as survivors."
        )
    rows = ["| area | planted | found | survive | without result |", "|---|---|---|---|---|"]
    for area, defects in areas.items():
        ran = [known[one["name"]] for one in defects if one["name"] in known]
        hits = sum(bool(one["found_by"]) for one in ran)
        rows.append(f"| {area} | {len(defects)} | {hits} | {len(ran) - hits} | {len(defects) - len(ran)} |")
    parts.append("\n".join(rows))
    each = [_survivor(area, one, known.get(one["name"])) for area, defects in areas.items() for one in defects]
    lines = [line for line in each if line]
    if lines:
        parts.append("\n".join(["**Survivors**, today or once:", "", *lines]))
    elif tried:
        parts.append(f"No defect survives of the {len(tried)} that have a result.")
    rows = ["| defect | what a user would suffer | found by |", "|---|---|---|"]
    for defects in areas.values():
        for one in defects:
            rows.append(f"| `{one['name']}` | {cell(one['what'])} | {_finder(known.get(one['name']))} |")
    return "\n\n".join([*parts, folded(f"All {len(names)} defects, and the test that found each", *rows)])


def _survivor(area: str, defect: dict[str, str], result: dict[str, Any] | None) -> str:
    """Return the line of a defect that no test finds, or that none found once; empty: it was always found."""
    survives = result is not None and not result["found_by"]
    if not (survives or defect.get("done") or (result or {}).get("survived")):
        return ""
    now = "**No test finds it**" if survives else f"Now found by {_finder(result)}"
    done = f" {cell(defect['done'])}" if defect.get("done") else ""
    return f"- `{defect['name']}` ({area}, `src/spanpost/{defect['file']}`): {cell(defect['what'])} {now}.{done}"


def _finder(result: dict[str, Any] | None) -> str:
    if result is None:
        return "no result"
    test = result["found_by"]
    if not test:
        return "**no test**"
    path, _, name = str(test).partition("::")
    if not name:
        return cell(str(test))  # the tests hung, or could not begin
    return f"[`{cell(name.rpartition('::')[2])}`](../../{path})"
