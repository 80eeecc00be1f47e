"""Every setting has an effect: some code reads it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, get_args

import pytest
from pydantic import BaseModel

from spanpost.launchers import registry as launchers
from spanpost.settings import Settings, section_model
from spanpost.settings.routes import OF_SINKS
from spanpost.sinks import registry as sinks
from spanpost.sinks.plugin import SinkSettings

pytestmark = pytest.mark.usefixtures("clean_environment")
SOURCE = Path(__file__).parents[2] / "src" / "spanpost"
_VALIDATORS = {"field_validator", "model_validator"}
#: A struct of the pure code that is made of all fields of a section.
_MADE_OF = {"Scheme": "SignatureSettings"}

Model: TypeAlias = type[BaseModel]
Models: TypeAlias = dict[str, set[Model]]


@pytest.mark.slow
def test_every_setting_is_read() -> None:
    """Each field of each section, and of the tables in it, is read outside of validators, from an expression that can
    be of its section: a field `port` of one section is not read because another's is.
    """
    models = dict(all_models())
    read = Reads(set(models.values())).of({path: ast.parse(path.read_text()) for path in sources()})
    fields = [(path, model, name) for path, model in models.items() for name in model.model_fields]
    assert len(fields) > 200
    unread = [f"{path}.{name}" for path, model, name in fields if (model, name) not in read]
    # A route takes these of its sink by name.
    by_name = {f"{path}.{name}" for path, m in models.items() if issubclass(m, SinkSettings) for name in OF_SINKS}
    assert [each for each in unread if each not in by_name] == []


class Guards(BaseModel):
    """A section of the next test."""

    port: int = 0
    checked: int = 0
    used: int = 0


class Endpoints(BaseModel):
    """Another section, with a field of the same name."""

    port: int = 0


def test_a_field_is_read_from_its_own_section() -> None:
    """A field is unused if only a validator reads it, or if the same name of another section is read."""
    tree = ast.parse(
        "class Guards:\n"
        "    @model_validator(mode='after')\n"
        "    def _fits(self): return self.checked\n"
        "    @property\n"
        "    def key(self): return self.used\n"
        "def opened(section: Endpoints):\n"
        "    given = section\n"
        "    return [each.port for each in (given,)]\n"
    )
    assert Reads({Guards, Endpoints}).of({Path("x"): tree}) == {(Guards, "used"), (Endpoints, "port")}


class Reads:
    """The fields that code reads, of these models.

    An expression can be of a model if its last name is a field with that model, is annotated with it somewhere in
    the module, or was given or iterated from such a name.
    """

    def __init__(self, models: set[Model]) -> None:
        #: The models that a class name means: itself, and those that derive from it.
        self._classes: Models = defaultdict(set)
        self._names: Models = defaultdict(set)
        for model in models:
            for base in model.__mro__:
                if base.__module__.split(".")[0] not in ("builtins", "pydantic", "pydantic_settings"):
                    self._classes[base.__name__].add(model)
            for name, field in model.model_fields.items():
                self._names[name] |= set(models_in(field.annotation)) & models
        for name, of in _MADE_OF.items():
            self._classes[name] |= self._classes[of]

    def of(self, modules: dict[Path, ast.Module]) -> set[tuple[Model, str]]:
        """Return what the modules read."""
        for tree in modules.values():  # attributes and results of functions have one meaning in the whole program
            for node in ast.walk(tree):
                if isinstance(node, ast.AnnAssign):
                    self._names[last(node.target)] |= self._named(node.annotation)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._names[node.name] |= self._named(node.returns)
        for tree in modules.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Attribute):
                            self._names[target.attr] |= self._names.get(last(node.value), set())
        return {found for tree in modules.values() for found in self._read(tree)}

    def _named(self, annotation: ast.AST | None) -> set[Model]:
        names = {last(node) for node in ast.walk(annotation)} if annotation is not None else set()
        return {model for name in names for model in self._classes.get(name, ())}

    def _read(self, tree: ast.Module) -> Iterator[tuple[Model, str]]:
        local = self._local(tree)
        waiting: list[tuple[ast.AST, set[Model]]] = [(tree, set())]
        while waiting:
            node, own = waiting.pop()
            if isinstance(node, ast.FunctionDef) and any(called(one) in _VALIDATORS for one in node.decorator_list):
                continue
            if isinstance(node, ast.ClassDef):
                own = self._classes.get(node.name, set())
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
                for model in own if is_own else self._of(node.value, local):
                    if node.attr in model.model_fields:
                        yield model, node.attr
            waiting += [(child, own) for child in ast.iter_child_nodes(node)]

    def _local(self, tree: ast.Module) -> Models:
        """Return the meanings of a module's own names."""
        local: Models = defaultdict(set)
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.arg):
                local[node.arg] |= self._named(node.annotation)
        named = [(name, last(part)) for node in nodes for name, value in given(node) for part in ast.walk(value)]
        for _ in range(3):
            for name, part in named:
                local[name] |= self._means(part, local)
        return local

    def _of(self, node: ast.AST, local: Models) -> set[Model]:
        return self._means(last(node), local)

    def _means(self, name: str, local: Models) -> set[Model]:
        return local.get(name, set()) | self._names.get(name, set()) | self._classes.get(name, set())


def given(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that a statement gives a value, and the value."""
    if isinstance(node, ast.NamedExpr):
        yield node.target.id, node.value
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        yield from ((part.id, node.iter) for part in ast.walk(node.target) if isinstance(part, ast.Name))
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from ((last(one), value) for one, value in zip(target.elts, node.value.elts, strict=False))
            elif isinstance(target, ast.Name | ast.Attribute):
                yield last(target), node.value


def last(node: ast.AST) -> str:
    """Return the last name of an expression: `tokens` of ``settings.gateway.tokens[0]``."""
    while isinstance(node, ast.Subscript | ast.Await | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def sources() -> list[Path]:
    return [path for path in SOURCE.rglob("*.py") if "testing" not in path.parts]


def all_models() -> Iterator[tuple[str, Model]]:
    """Yield the path and the model of each of spanpost's own sections, sinks and launchers, and of their tables."""
    own = [name for name in sinks.names() if sinks.distribution(name).split()[0] == "spanpost"]
    for section in (*Settings.model_fields, *own):
        yield from models_below(section, section_model(section), set())
    yield from models_below("launchers.named", launchers.find("command").settings, set())


def models_below(path: str, model: Model, above: set[Model]) -> Iterator[tuple[str, Model]]:
    yield path, model
    for name, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            if inner not in above:
                yield from models_below(f"{path}.{name}", inner, above | {model})


def models_in(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def called(decorator: ast.expr) -> str:
    return decorator.func.id if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) else ""
