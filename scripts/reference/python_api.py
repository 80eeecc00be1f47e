"""The page of the Python API: public names with signatures, fields and docstrings, read from the source."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
#: Public modules in the order of the page; names are those of `__all__`, or these.
MODULES: dict[str, tuple[str, ...]] = {
    "spanpost.agent": (),
    "spanpost.agent.control": (),
    "spanpost.agent.adapters.pydantic_ai": (),
    "spanpost.agent.adapters.openai_agents": (),
    "spanpost.agent.adapters.langgraph": (),
    "spanpost.agent.adapters.mcp": (),
    "spanpost": (),
    "spanpost.settings": ("Settings", "load"),
    "spanpost.interactions.protocols": ("Question", "Answer"),
    "spanpost.readers": (),
    "spanpost.readers.dialect": ("Dialect", "ReadSpan"),
    "spanpost.model.readings": ("Role",),
    "spanpost.testing.exercise_sink": ("exercise_sink",),
    "spanpost.testing.exercise_launcher": ("exercise_launcher",),
    "spanpost.testing.fake_slack": ("FakeSlack", "Fault"),
}
#: Bases whose fields and methods are not repeated.
_FOREIGN = ("Struct", "Protocol", "BaseModel", "Exception", "Enum", "StrEnum", "IntEnum", "NamedTuple", "Generic")
_WIDE = 100
#: A default that is the name of a constant.
_NAMED = re.compile(r"= (_?[A-Z][A-Z_]+)\b")
_LITERAL = re.compile(r"``([^`]+)``")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Found:
    """A definition and the module that makes it."""

    module: str
    node: Definition


@cache
def _text(module: str) -> str:
    path = SOURCE / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text() if file.is_file() else ""


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_text(module))


def names(module: str) -> tuple[str, ...]:
    """Return the public names of a module: those given here, or of its `__all__`."""
    if MODULES[module]:
        return MODULES[module]
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return tuple(ast.literal_eval(node.value))
    raise LookupError(f"{module} has no __all__")


def find(module: str, name: str) -> Found | None:
    """Return the definition of a name, through imports; None for a value that is no function or class."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, Definition) and node.name == name and node in _tree(module).body:
            return Found(module, node)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("spanpost"):
            for one in node.names:
                if (one.asname or one.name) == name:
                    return find(node.module, one.name)
    return None


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool = False) -> str:
    parts = _parameters(node.args)[1 if is_method else 0 :]
    is_async = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and node.name != "__init__" else ""
    line = f"{is_async}{name}({', '.join(parts)}){returns}"
    if len(line) <= _WIDE or (is_method and node.name != "__init__"):
        return line
    return f"{is_async}{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def _parameters(given: ast.arguments) -> list[str]:
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    parts = [_parameter(argument, default) for argument, default in zip(plain, defaults, strict=True)]
    if given.vararg is not None:
        parts.append(f"*{_parameter(given.vararg, None)}")
    elif given.kwonlyargs:
        parts.append("*")
    parts += [_parameter(a, default) for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*parts, f"**{_parameter(given.kwarg, None)}"] if given.kwarg is not None else parts


@cache
def _constant(module: str, name: str) -> str | None:
    """Return the value of a module's constant, as it is written."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.unparse(node.value)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name and node.value is not None:
            return ast.unparse(node.value)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("spanpost"):
            for one in node.names:
                if (one.asname or one.name) == name:
                    return _constant(node.module, one.name)
    return None


def _with_constants(module: str, signature: str) -> str:
    """Write the values of constants in place of their names."""
    return _NAMED.sub(lambda found: f"= {_constant(module, found[1]) or found[1]}", signature)


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation is not None else ""
    value = "" if default is None else f" = {ast.unparse(default)}" if kind else f"={ast.unparse(default)}"
    return f"{argument.arg}{kind}{value}"


def _prose(node: Definition | ast.Module) -> str:
    """Return a docstring as CommonMark: literals with one backtick, `::` as a colon before an indented block."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return re.sub(r"::\n\n(?=    )", ":\n\n", _LITERAL.sub(r"`\1`", text))


def _bases(found: Found) -> list[Found]:
    """Return a class and its bases in this program, the class first."""
    assert isinstance(found.node, ast.ClassDef)
    chain = [found]
    for base in found.node.bases:
        name = ast.unparse(base).split("[")[0].rpartition(".")[2]
        known = None if name in _FOREIGN else find(found.module, name)
        if known is not None and isinstance(known.node, ast.ClassDef):
            chain += _bases(known)
    return chain


def _fields(found: Found) -> list[str]:
    lines = _text(found.module).splitlines()
    rows = []
    for item in found.node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name, kind = item.target.id, ast.unparse(item.annotation)
            value = item.value
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name, kind, value = item.targets[0].id, "", item.value
        else:
            continue
        if name.startswith("_") or name == "model_config" or kind.startswith("ClassVar"):
            continue
        above = item.lineno - 2
        comment: list[str] = []
        while above >= 0 and lines[above].strip().startswith("#:"):
            comment.insert(0, lines[above].strip()[2:].strip())
            above -= 1
        meaning = " ".join(comment) or _described(value)
        default = "" if value is None or isinstance(value, ast.Call) else f"`{ast.unparse(value)}`"
        cells = [f"`{name}`", f"`{kind}`" if kind else "", default, meaning.replace("``", "`")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _described(value: ast.expr | None) -> str:
    """Return the description of a pydantic field."""
    for keyword in value.keywords if isinstance(value, ast.Call) else []:
        if keyword.arg == "description" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return ""


def _entry(name: str, found: Found, module: str) -> str:
    node, parts = found.node, [f"### {module}.{name}"]
    if not isinstance(node, ast.ClassDef):
        shown = _with_constants(found.module, _signature(name, node))
        return "\n\n".join([*parts, f"```text\n{shown}\n```", _prose(node)])
    chain = _bases(found)
    made = next((i for one in chain for i in one.node.body if getattr(i, "name", "") == "__init__"), None)
    if isinstance(made, ast.FunctionDef):
        shown = _with_constants(found.module, _signature(name, made, is_method=True))
        parts.append(f"```text\n{shown}\n```")
    own = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    if any(base.endswith(("Error", "Exception", "Unavailable", "Rejected")) for base in own):
        parts.append(f"An error; a kind of `{'`, `'.join(own)}`.")
    parts.append(_prose(node))
    fields = [row for one in chain for row in _fields(one)]
    if fields:
        parts.append("\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *dict.fromkeys(fields)]))
    methods: dict[str, str] = {}
    for one in chain:
        for item in one.node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and not item.name.startswith("_"):
                methods.setdefault(item.name, _method(item))
    return "\n\n".join([*parts, *methods.values()])


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    is_property = any(getattr(one, "id", "") == "property" for one in node.decorator_list)
    if is_property:
        kind = f": {ast.unparse(node.returns)}" if node.returns is not None else ""
        shown = f"`{node.name}{kind}`"
    else:
        is_static = any(getattr(one, "id", "") == "staticmethod" for one in node.decorator_list)
        shown = f"`{_signature(node.name, node, is_method=not is_static)}`"
    first, _, rest = _prose(node).partition("\n\n")
    text = f"- {shown}: {' '.join(first.split())}" if first else f"- {shown}"
    if rest:
        text += "\n\n" + "\n".join(f"  {line}" if line else "" for line in rest.splitlines())
    return text


def python_page() -> str:
    """Return the reference of the public Python modules."""
    parts = [
        "# Python API",
        "*Made from the source's signatures and docstrings by `make reference`.*",
        "These names are public: they change by the rules of [Semantic Versioning](https://semver.org). Every other "
        "name may change at any time. Times of arguments are seconds, times of answers are `datetime` in UTC, money is "
        "`Decimal` in US dollars, and a value that is unknown is `None`, never 0. What is called in an agent's thread "
        "raises nothing, unless its entry names an error. Over HTTP the same is in the [HTTP API](api.md) and in "
        "[waiting for people](control.md); the attributes are in [conventions](conventions.md).",
    ]
    seen: dict[tuple[str, str], str] = {}
    for module in MODULES:
        parts.append(f"## {module}\n\n{_prose(_tree(module)).partition(chr(10) * 2)[0]}")
        for name in names(module):
            found = find(module, name)
            if found is None:
                continue
            where = (found.module, found.node.name)
            if where in seen:
                parts.append(f"### {module}.{name}\n\nThe same as `{seen[where]}`.")
                continue
            seen[where] = f"{module}.{name}"
            parts.append(_entry(name, found, module))
    return "\n\n".join(parts) + "\n"
