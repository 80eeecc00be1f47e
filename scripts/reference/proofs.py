"""What tests prove: promises, faults and bad inputs of `tests/promises.toml`, the markers `proves` of the tests, and
the results that `pytest --record-proofs` kept.
"""

from __future__ import annotations

import ast
import functools
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


class Proof(NamedTuple):
    """One marker: a test, what it shows, the promise that it proves, the faults and bad inputs under which it does."""

    test: str
    shows: str
    promise: str
    tried: tuple[str, ...]


@functools.cache
def promises() -> dict[str, Any]:
    """Return the lists of guarantees, faults and bad inputs."""
    return tomllib.loads((TESTS / "promises.toml").read_text())


def results() -> dict[str, dict[str, Any]]:
    """Return the last recorded result of each test."""
    return dict(json.loads((TESTS / "proofs.json").read_text()))


@functools.cache
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


def said(stated: dict[str, Any], name: str) -> str:
    """Return what a fault or an input is, in words."""
    inputs = {key: one for group in stated["inputs"].values() for key, one in group.items()}
    one = stated["faults"].get(name) or inputs[name]
    return str(one[1] if isinstance(one, list) else one)


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "&#124;")


def folded(summary: str, *lines: str) -> str:
    """Return lines that a reader opens."""
    return "\n".join(["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"])
