"""The page of proofs, and the lists of promises in the pages of guarantees: from `tests/promises.toml`, the markers
`proves` of the tests, and the results that `pytest --record-proofs` kept.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PAGES = ROOT / "docs" / "explanation" / "guarantees"
#: The list of promises of a page stands between these.
BEGIN, END = "<!-- promises: made by `make reference` -->", "<!-- end of the promises -->"


class Proof(NamedTuple):
    """One marker: a test, what it shows, the promise that it proves, the faults and bad inputs under which it does."""

    test: str
    shows: str
    promise: str
    tried: tuple[str, ...]


def promises() -> dict[str, Any]:
    """Return the lists of guarantees, faults and bad inputs."""
    return tomllib.loads((TESTS / "promises.toml").read_text())


def results() -> dict[str, dict[str, Any]]:
    """Return the last recorded result of each test."""
    return dict(json.loads((TESTS / "proofs.json").read_text()))


def proofs() -> list[Proof]:
    """Return the markers of all tests, by file."""
    return [proof for path in sorted(TESTS.rglob("test_*.py")) for proof in _of_file(path)]


def _of_file(path: Path) -> Iterator[Proof]:
    text = path.read_text()
    if ".proves(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
                    promise, *tried = (str(ast.literal_eval(one)) for one in mark.args)
                    shows = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    yield Proof(f"{path.relative_to(TESTS)}::{node.name}", shows, promise, tuple(tried))


def proofs_page() -> str:
    """Return the page of proofs."""
    stated, found, known = promises(), proofs(), results()
    inputs = {name: one for group in stated["inputs"].values() for name, one in group.items()}
    planned = [name for name, one in stated["faults"].items() if isinstance(one, list)]
    tried = {name for proof in found for name in proof.tried}
    partly = tried & {*stated["not_tried"]}
    tests = {proof.test for proof in found}
    ran = [known[name] for name in tests if name in known]
    number = sum(len(one["promises"]) for one in stated["guarantees"].values())
    parts = [
        "# Proofs",
        "*Made from the tests by `make reference`: `tests/promises.toml` has the promises, faults and bad inputs, "
        "each test names what it proves (`@pytest.mark.proves`), and `pytest --record-proofs` keeps its result in "
        "`tests/proofs.json`.*",
        "Each promise stands with the tests that try to break it, the faults and inputs under which they do, and what "
        "came out last. [The guarantees](../explanation/what-is-promised.md) say what a promise means, and what it "
        "does not. *Cases* are examples, seeds and parameters of the last recorded run.",
        f"{number} promises, {len(tests)} tests, {sum(one['cases'] for one in ran):,} cases. "
        f"{len(tried & {*planned})} of {len(planned)} planned faults are tried, {len(partly & {*planned})} of them "
        f"in part; {len(tried & {*inputs})} of {len(inputs)} bad inputs, {len(partly & {*inputs})} in part; and "
        f"{len(tried & ({*stated['faults']} - {*planned}))} further faults. Last results: "
        f"{sum(one['failed'] == 0 for one in ran)} passed, {sum(one['failed'] > 0 for one in ran)} failed, "
        f"{len(tests) - len(ran)} not recorded.",
        "**Not tried** says what is left of a fault or an input.",
    ]
    for page, guarantee in stated["guarantees"].items():
        parts.append(f"## {guarantee['title']}\n\n[What it means](../explanation/guarantees/{page}.md).")
        for name, says in guarantee["promises"].items():
            rows = [
                f"| {one.shows.replace('|', '&#124;')} {_test(one.test)} "
                f"| {', '.join(_name(stated, inputs, it) for it in one.tried)} | {_result(known, one)} |"
                for one in found
                if one.promise == name
            ]
            table = "\n".join(["| what a test shows | tried | cases and last result |", "|---|---|---|", *rows])
            parts.append(f"**{says}**\n\n{table if rows else 'Not tried.'}")
    parts.append("## Faults\n\nThe numbered ones were planned before the tests were written.")
    rows = ["| | fault | tests |", "|---|---|---|"]
    for name, one in stated["faults"].items():
        place, says = (str(one[0]), one[1]) if isinstance(one, list) else ("", one)
        rows.append(f"| {place} | {says} | {_tests(found, name, stated)} |")
    parts.append("\n".join(rows))
    parts.append("## Bad input")
    for group, listed in stated["inputs"].items():
        rows = ["| | sent | tests |", "|---|---|---|"]
        rows += [f"| {place} | {says} | {_tests(found, name, stated)} |" for name, (place, says) in listed.items()]
        parts.append(f"### {group}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _test(test: str) -> str:
    path, name = test.split("::")
    return f"[`{name}`](../../tests/{path})"


def _name(stated: dict[str, Any], inputs: dict[str, Any], name: str) -> str:
    one = stated["faults"].get(name) or inputs[name]
    return one[1] if isinstance(one, list) else str(one)


def _result(known: dict[str, dict[str, Any]], proof: Proof) -> str:
    if (one := known.get(proof.test)) is None:
        return "not recorded"
    size = f"; {one['size']}" if "size" in one else ""
    said = "passed" if not one["failed"] else f"**{one['failed']} failed**"
    return f"{one['cases']:,}{size}; {said} in {one['seconds']:g} s, {one['on']}"


def _tests(found: list[Proof], name: str, stated: dict[str, Any]) -> str:
    tests = dict.fromkeys(proof.test for proof in found if name in proof.tried)
    limits = stated["not_tried"].get(name, "")
    if not tests:
        return f"**Not tried.** {limits}".strip()
    return ", ".join(_test(one) for one in tests) + (f". **Not tried:** {limits}" if limits else "")


def with_promises(page: Path) -> str:
    """Return the page of a guarantee with its promises, and how many tests hold each."""
    stated, found = promises(), proofs()
    guarantee = stated["guarantees"][page.stem]
    anchor = re.sub(r"[^\w\- ]", "", guarantee["title"].lower()).replace(" ", "-")
    lines = []
    for name, says in guarantee["promises"].items():
        held = {proof.test for proof in found if proof.promise == name}
        lines.append(f"- {says} ({len(held)} {'test' if len(held) == 1 else 'tests'})")
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    last = f"[The proofs](../../reference/guarantees.md#{anchor}) name the tests, the faults and the last results."
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{last}\n\n{END}{after}"
