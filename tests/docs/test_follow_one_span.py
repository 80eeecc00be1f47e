"""The page that follows one span names files and functions that exist, and counts them."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "spanpost"
PAGE = (ROOT / "docs" / "explanation" / "follow-one-span.md").read_text()

#: (file, function) by heading.
STEPS = {
    head: re.findall(r"^\| \d+ \| \[`([^`]+)`\]\([^)]+\) \| `([^`]+)` \|", part, re.MULTILINE)
    for head, _, part in (section.partition("\n") for section in PAGE.split("\n## ")[1:])
}
NAMED = sorted({step for steps in STEPS.values() for step in steps})


def _names(tree: ast.Module | ast.ClassDef, above: str = "") -> set[str]:
    """Return the classes, functions, methods and assigned names of a module, methods as `Class.method`."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {above + node.name} | _names(node, f"{above}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(above + node.name)
        elif isinstance(node, ast.Assign):
            found |= {above + target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_step_exists(file: str, name: str) -> None:
    """The file of a step defines its function."""
    assert name in _names(ast.parse((SOURCE / file).read_text()))


def test_each_step_links_to_its_file() -> None:
    """A step's link leads to the file that it names."""
    links = re.findall(r"\[`([\w/]+\.py)`\]\(([^)]+)\)", PAGE)
    assert len(links) > 60
    assert [name for name, link in links if link != f"../../src/spanpost/{name}"] == []


def test_the_page_counts_each_way() -> None:
    """The figures are the different files from each beginning to each end, and the returns to a file that was left."""
    rows = re.findall(
        r"^\| .*?(agent|gateway).*? \| (\d+), (\d+) \| (\d+), (\d+) \| (\d+), (\d+) \|$", PAGE, re.MULTILINE
    )
    ends = ("The audit row", "The Slack call", "The metric")
    said = {
        (start, end): (int(files), int(returns))
        for start, *figures in rows
        for end, files, returns in zip(ends, figures[::2], figures[1::2], strict=True)
    }
    beginnings = {"agent": "In the agent", "gateway": "At the gateway"}
    found = {}
    for start, heading in beginnings.items():
        for end in ends:
            files = [file for head in (heading, "The fold", end) for file, _ in STEPS[head]]
            stays = [file for before, file in pairwise(["", *files]) if file != before]
            found[start, end] = (len(set(stays)), len(stays) - len(set(stays)))
    assert said == found
