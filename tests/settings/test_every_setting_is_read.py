"""Every setting has an effect: some code reads it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from spanpost.launchers import registry as launchers
from spanpost.settings import Settings, section_model
from spanpost.sinks import registry as sinks

pytestmark = pytest.mark.usefixtures("clean_environment")
SOURCE = Path(__file__).parents[2] / "src" / "spanpost"
_VALIDATORS = {"field_validator", "model_validator"}


def test_every_setting_is_read() -> None:
    """Each field of each section, and of the tables in it, is read outside of validators."""
    read = {name for path in SOURCE.rglob("*.py") if "testing" not in path.parts for name in names_read(path)}
    fields = dict(all_fields())
    assert len(fields) > 200
    assert [path for path, name in fields.items() if name not in read] == []


def test_a_field_that_only_a_validator_reads_counts_as_unread(tmp_path: Path) -> None:
    """A field that only a check reads is unused; a property that reads it is a use."""
    path = tmp_path / "settings.py"
    path.write_text(
        "class S:\n"
        "    @model_validator(mode='after')\n"
        "    def _fits(self): return self.checked\n"
        "    @property\n"
        "    def key(self): return self.used\n"
    )
    assert set(names_read(path)) == {"used"}


def all_fields() -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each field of spanpost's own sections, sinks and launchers."""
    own = [name for name in sinks.names() if sinks.distribution(name).split()[0] == "spanpost"]
    for section in (*Settings.model_fields, *own):
        yield from fields_of(section, section_model(section), set())
    yield from fields_of("launchers.named", launchers.find("command").settings, set())


def fields_of(path: str, model: type[BaseModel], above: set[type[BaseModel]]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield f"{path}.{name}", name
        for inner in models_in(field.annotation):
            if inner not in above:
                yield from fields_of(f"{path}.{name}", inner, above | {model})


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def names_read(path: Path) -> Iterator[str]:
    """Yield the attributes that a module reads, except in validators."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef) and any(called(one) in _VALIDATORS for one in node.decorator_list):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        waiting += ast.iter_child_nodes(node)


def called(decorator: ast.expr) -> str:
    return decorator.func.id if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) else ""
