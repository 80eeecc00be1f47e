"""One word for one thing: unique class names, and no private words in names and prose.

Three rules, from strict to narrow:

- Public names (modules, metrics, settings, commands, tables, the API): no word of `IN_NAMES`.
- Pages: no word of `IN_PAGES`.
- Files of `OURS` (sources, tests, benchmarks, scripts, examples): no word of `IN_OUR_NAMES` in a name that they
  define, and none of `IN_OUR_PROSE` in a docstring or a comment. Names of other packages and strings (recorded data,
  texts of agents) are free.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "spanpost"


def _of(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words of the first build, in singular and plural; the glossary has the words that replace them.
_NOUNS = _of(
    "house room door hall desk letter lane pump ledger tongue saying kin unit boundary crown heir "
    "handover offspring claimant strand segment errand manner guise patience"
)
PRIVATE = (
    _NOUNS
    | {f"{noun}s" for noun in _NOUNS}
    | _of("box boxes shelf shelves reception retold told tells telling news heard seldom bury buried")
)
#: Ordinary English in a sentence, and no good in a name.
IN_NAMES = PRIVATE | _of("group groups slot slots lost passed repeats settle settled look looks")
#: In pages also words that hide the subject of a sentence.
IN_PAGES = PRIVATE | _of("whoever nobody")

#: In names of our own files. A group, a look, a lost answer and a passed deadline are plain English there.
IN_OUR_NAMES = PRIVATE | _of("slot slots repeats settle settled")
#: In docstrings and comments of our own files. "Nobody" is plain English there; a unit is one of time, of text or
#: systemd's.
IN_OUR_PROSE = (PRIVATE | {"whoever"}) - _of("unit units")

#: Allowed words, with the reason.
ALLOWED_PHRASES = {
    r"dead letters?": "the field's word for deliveries that are given up",
    r"trust boundar(y|ies)": "the threat model's word for where another party's data is checked",
    r"systemd units?|unit file": "systemd calls its files units",
    r'unit = "': "the setting for the unit of a figure: ms",
    r"\bstrands\b": "the name of an agent framework",
    r"check ?box(es)?|boxes to tick": "a part of a form",
    r"(small|upper|lower|capital)[- ]case letters?|letters, digits": "characters of an alphabet",
}
#: In prose of our own files, beside those.
ALLOWED_PROSE = {
    r"travel desk": "the agent of the examples",
    r"(hotel|which|book a) room|room to book": "what the examples' agent books",
    r"(makes|with|there is) room": "free space",
    r"letters? (and|that|without|poses|of text|are mixed)": "characters of an alphabet",
    r"(one|a|full-width|random|second|Korean|blank|separates its) letters?": "characters of an alphabet",
    r"(one|a) segment of": "a part of a path",
}
ALLOWED_NAMES = {
    "groups": "groups of people, in Slack and in an identity provider",
    "group": "one of them; and the group of a label in Alertmanager's webhooks",
    "strands": "the name of an agent framework",
    "unit": "the unit of a figure: seconds, dollars",
    "units": "several of them",
}
#: Names of our own files.
ALLOWED_OUR_NAMES = {
    **dict.fromkeys(("room", "Room", "ROOM", "book_room"), "what the examples' agent books"),
    "travel_desk": "the agent of the examples",
    **dict.fromkeys(("letter", "letters", "_has_letter_or_digit"), "characters of an alphabet"),
    "__slots__": "Python's",
}

#: Files whose names and prose must hold the words as well. Recordings are data, and this file lists the words.
OURS = (
    "src/spanpost/**/*.py",
    "tests/**/*.py",
    "bench/*.py",
    "scripts/**/*.py",
    "examples/**/*.py",
    "plugins/*/tests/*.py",
)
NOT_OURS = ("tests/captures/", "tests/test_words.py")
#: Pages outside of docs/.
OUR_PAGES = ("tests/README.md", "bench/README.md", "examples/**/*.md", "plugins/**/*.md")

#: Class names that are used twice, with the reason.
TWICE = {
    "Task": "the row in `spanpost.model`, and the handle that an agent holds in `spanpost.agent`",
}


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _private_in(name: str) -> set[str]:
    return {word for word in _words(name) if word in IN_NAMES and word not in ALLOWED_NAMES}


def _class_names() -> Counter[str]:
    """Count the public classes of the program by name; those of test doubles are their own."""
    files = [path for path in SOURCE.rglob("*.py") if "testing" not in path.relative_to(SOURCE).parts]
    return Counter(
        node.name
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )


def _module_names() -> Iterator[str]:
    for path in SOURCE.rglob("*.py"):
        yield ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def _metric_names() -> Iterator[str]:
    from prometheus_client.metrics import MetricWrapperBase

    from spanpost.metrics.labels import BYPASSED, CALLED, DROPPED
    from spanpost.metrics.recorder import Metrics

    for metric in Metrics().registry._collector_to_names:
        if isinstance(metric, MetricWrapperBase):
            yield metric._name
            yield from (f"{metric._name}.{label}" for label in metric._labelnames)
    yield from (f"label value {value}" for value in (*BYPASSED, *CALLED, *DROPPED))


def _settings_names() -> Iterator[str]:
    from spanpost.settings import Settings, section_model

    for section in (*Settings.model_fields, "slack", "console", "grafana"):
        yield section
        yield from _fields(section, section_model(section))


def _fields(above: str, model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{above}.{name}"
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _fields(f"{above}.{name}", inner)


def _command_names() -> Iterator[str]:
    from spanpost.cli.program import program

    def of(command: Any, name: str) -> Iterator[str]:
        yield name
        for parameter in command.params:
            yield f"{name} {parameter.name}"
            yield from (f"{name} {option}" for option in parameter.opts)
        for key, inner in getattr(command, "commands", {}).items():
            yield from of(inner, f"{name} {key}")

    yield from of(typer.main.get_command(program), "spanpost")


def _table_names() -> Iterator[str]:
    from spanpost.store.sql.migrations.v1_0 import views
    from spanpost.store.sql.migrations.versions import v1_0

    for statements in (*v1_0.TABLES, *views.VIEWS):
        for statement in statements:
            if found := re.match(r"COMMENT ON (?:TABLE|VIEW|COLUMN) ([\w.]+) IS", statement):
                yield found[1]


def _api_names() -> Iterator[str]:
    from spanpost.interactions.api.app import application
    from spanpost.interactions.api.parts import ApiParts

    none = cast("Any", None)
    document = application(ApiParts(none, none, none, none, none, take=none, resolvers={})).document()
    for path, operations in document["paths"].items():
        yield path
        for operation in operations.values():
            yield from (f"{path} {parameter['name']}" for parameter in operation.get("parameters", ()))
    for name, schema in document["components"]["schemas"].items():
        yield name
        yield from (f"{name}.{field}" for field in schema.get("properties", {}))


def _our_files() -> Iterator[Path]:
    for pattern in OURS:
        for path in sorted(ROOT.glob(pattern)):
            if not path.relative_to(ROOT).as_posix().startswith(NOT_OURS):
                yield path


def _defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a file gives: to functions, classes, arguments, variables, attributes and imports."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _prose(tree: ast.AST, source: str) -> Iterator[str]:
    """Yield a file's docstrings and comments."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _without(phrases: Iterable[str], text: str) -> str:
    for phrase in phrases:
        text = re.sub(phrase, "", text, flags=re.IGNORECASE)
    return text


def _met(text: str, words: frozenset[str]) -> set[str]:
    return {word.lower() for word in re.findall(r"\b[A-Za-z]+\b", text)} & words


@cache
def _is_private(name: str) -> bool:
    """Return whether a name of our files has a private word; `dead_letter` and other phrases are none."""
    if name in ALLOWED_OUR_NAMES:
        return False
    words = _words(_without(ALLOWED_PHRASES, name.replace("_", " ")))
    return any(word in IN_OUR_NAMES and word not in ALLOWED_NAMES for word in words)


def _found_in(name: str, source: str) -> set[str]:
    """Return a line for each private name, and each private word in the prose, of one of our files."""
    if not {*_words(source), *_words(name)} & (IN_OUR_NAMES | IN_OUR_PROSE):
        return set()  # most have none anywhere, and finding names and comments takes long
    tree = ast.parse(source)
    names = {Path(name).stem, *_defined(tree)}
    lines = {f"name: {name}: {one}" for one in names if _is_private(one)}
    for text in _prose(tree, source):
        if _met(text, IN_OUR_PROSE):
            text = _without((*ALLOWED_PHRASES, *ALLOWED_PROSE), " ".join(text.split()))
            lines |= {f"prose: {name}: {word}" for word in _met(text, IN_OUR_PROSE)}
    return lines


NAMES = {
    "module": _module_names,
    "metric": _metric_names,
    "setting": _settings_names,
    "command": _command_names,
    "table": _table_names,
    "api": _api_names,
}


def _found() -> set[str]:
    """Return what the words forbid: a line for each name, and for each word of a page."""
    lines = {f"class twice: {name}" for name, n in _class_names().items() if n > 1 and name not in TWICE}
    for kind, names in NAMES.items():
        lines |= {f"{kind}: {name}" for name in names() if _private_in(name)}
    for pattern in ("docs/**/*.md", *OUR_PAGES):
        for page in sorted(ROOT.glob(pattern)):
            met = _met(_without(ALLOWED_PHRASES, page.read_text()), IN_PAGES)
            lines |= {f"page: {page.relative_to(ROOT)}: {word}" for word in met}
    for path in _our_files():
        lines |= _found_in(path.relative_to(ROOT).as_posix(), path.read_text())
    return lines


def test_no_private_word() -> None:
    """Class names are used once, and names and pages have no private word."""
    assert sorted(_found()) == []


def test_a_private_word_in_a_test_is_found() -> None:
    """A private word in a name, a comment, a docstring or a file name is found; plain English is not."""
    source = '''
def test_a_dead_letter_is_kept(unit, room):
    """A hotel room, two units and dead letters."""
    class Desk:  # a pump
        "News of the ledger."
    told = store.ledger
    store.outbox.finish(told)
'''
    assert _found_in("tests/test_lanes.py", source) == {
        "name: tests/test_lanes.py: Desk",
        "name: tests/test_lanes.py: test_lanes",
        "name: tests/test_lanes.py: told",
        "prose: tests/test_lanes.py: ledger",
        "prose: tests/test_lanes.py: news",
        "prose: tests/test_lanes.py: pump",
    }
    assert len(list(_our_files())) > 300


@pytest.mark.slow
def test_the_names_are_found() -> None:
    """Each kind of name yields some, so that none is overlooked because it moved."""
    assert {kind: len(set(names())) > 30 for kind, names in NAMES.items()} == dict.fromkeys(NAMES, True)
