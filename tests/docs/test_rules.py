"""The page on placement names every rule of the task machine, with the status that it gives."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from spanpost import semconv
from spanpost.tasks import status as tasks

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "placement-and-counting.md").read_text()


def _rules() -> set[tuple[str, str | None]]:
    """Return (rule, status) of every verdict in the machine's source; None where the status is not a constant."""
    found: set[tuple[str, str | None]] = set()
    for node in ast.walk(ast.parse(inspect.getsource(tasks))):
        match node:
            case ast.Call(
                func=ast.Name(id="TaskVerdict"),
                args=[ast.Attribute(value=ast.Name(id="c"), attr=status), ast.Constant(value=rule), *_],
            ):
                found.add((rule, getattr(semconv, status)))
            case ast.Call(
                func=ast.Name(id="TaskVerdict"),
                args=[ast.Attribute(value=ast.Name(id="c"), attr=status), ast.Name(id=rule), *_],
            ) if rule.isupper():
                found.add((getattr(tasks, rule), getattr(semconv, status)))
            case ast.Call(func=ast.Name(id="TaskVerdict"), args=[_, ast.Constant(value=rule), *_]):
                found.add((rule, None))
            case ast.Call(func=ast.Name(id="_interrupted"), args=[_, ast.Constant(value=rule), *_]):
                found.add((rule, semconv.ERROR))
    return found


def test_the_page_names_every_rule() -> None:
    """Each rule of the machine is in the page with its status, and the page names no other."""
    documented = {
        (rule, status)
        for rule, cell in re.findall(r"^\| `([^`]+)` \| (.+?) \| ", PAGE, re.MULTILINE)
        for status in _statuses(cell)
    }
    rules = _rules()
    assert len(rules) > 12
    assert {(rule, status) for rule, status in rules if status is not None} - documented == set()
    assert {rule for rule, status in rules if status is None} - {rule for rule, _ in documented} == {"run ended"}
    assert {rule for rule, _ in documented} - {rule for rule, _ in rules} == set()


def test_the_diagram_has_the_nine_statuses() -> None:
    """The state diagram shows each status of the conventions and no other."""
    diagram = PAGE.split("```mermaid")[1].split("```")[0]
    shown = {name for pair in re.findall(r"^ +(\S+) --> (\w+)", diagram, re.MULTILINE) for name in pair} - {"[*]"}
    assert shown == set(semconv.STATUSES)


def _statuses(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell) or ["said"]
