"""The project's own rules: style, types, the direction of imports, the public names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LONGEST = 400


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_types() -> None:
    """The whole package passes mypy in strict mode."""
    _run(sys.executable, "-m", "mypy")


def test_style() -> None:
    """Code, tests and scripts pass ruff."""
    _run(sys.executable, "-m", "ruff", "check", ".")


@pytest.mark.slow
def test_imports_go_one_way() -> None:
    """Packages import downwards only, independent ones do not import each other, and the fold is pure."""
    _run(str(BIN / "lint-imports"), "--no-cache")


def test_files_are_short() -> None:
    """No source file has more than 400 lines."""
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.glob("src/**/*.py")}
    assert {path: number for path, number in lines.items() if number > LONGEST} == {}


def test_no_group_of_an_expression_is_possessive() -> None:
    """No group is repeated possessively: before Python 3.11.5 such a group kept characters of a branch that failed."""
    possessive = re.compile(r"\)(?:[+*?]|\{\d*,?\d*\})\+")
    found = [path for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/**/*.py"))
             if ".venv" not in path.parts and possessive.search(path.read_text())]  # fmt: skip
    assert found == []


def test_typed() -> None:
    """The package declares that it is typed."""
    assert (ROOT / "src" / "spanpost" / "py.typed").is_file()


def test_public_names() -> None:
    """The public names of `spanpost` are sorted, without repeats, and all exist."""
    import spanpost

    names = list(getattr(spanpost, "__all__", []))
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(spanpost, name)] == []


def test_every_extra_exists() -> None:
    """Each extra that a page or an error message names is declared."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py"), *ROOT.glob("deploy/**/*")]
    texts = [file.read_text() for file in files if file.is_file()]
    named = {
        extra for text in texts for found in re.findall(r"spanpost\[([a-z,-]+)\]", text) for extra in found.split(",")
    }
    assert len(named) > 8
    assert named - set(extras) == set()


def locked(name: str) -> dict[str, str]:
    """Return the lines of each package in a lock file: version, conditions, hashes."""
    text = re.sub(r"(?m)^ *#.*$", "", (ROOT / name).read_text())
    return dict(re.findall(r"(?ms)^([a-z0-9.-]+)(?:\[.*?\])?(==.*?)(?=^\S|\Z)", text))


def test_the_demo_has_packages_of_the_tests() -> None:
    """Each locked package of the demo has the version and the hashes that the tests have."""
    of_demo, of_tests = locked("requirements-demo.lock"), locked("requirements-dev.lock")
    assert len(of_demo) > 30

    def pinned(lines: str) -> tuple[str, list[str]]:
        return lines.split()[0], re.findall(r"sha256:\w+", lines)

    assert [name for name, lines in of_demo.items() if pinned(lines) != pinned(of_tests[name])] == []


@pytest.mark.parametrize("name", ["requirements-dev.lock", "requirements-demo.lock"])
def test_the_lock_names_no_host(name: str) -> None:
    """A lock file holds versions and hashes, and no address of any registry."""
    lock = (ROOT / name).read_text()
    assert re.findall(r"https?://|--index-url|--find-links|--extra-index", lock) == []
    packages = re.findall(r"^[a-z0-9._-]+(?:\[.*\])?==", lock, re.MULTILINE)
    assert len(packages) > 30
    assert len(re.findall("--hash=sha256:", lock)) > len(packages)


def test_the_lock_covers_what_is_declared() -> None:
    """Every dependency and extra of pyproject.toml, and of the plugins', is locked."""
    import tomllib

    declared, own = [], set()
    for path in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())
        own.add(project["project"]["name"])
        declared += project["project"]["dependencies"] + [
            one for group in project.get("dependency-groups", {}).values() for one in group if isinstance(one, str)
        ]
        for extra in project["project"].get("optional-dependencies", {}).values():
            declared += extra
    names = {re.split(r"[\[<>=~! ]", one)[0].lower().replace("_", "-") for one in declared} - own
    assert names - set(locked("requirements-dev.lock")) == set()


def test_the_example_is_the_demo() -> None:
    """examples/first_agent.py and the agent of `spanpost demo` are one text."""
    shipped = ROOT / "src" / "spanpost" / "demo" / "first_agent.py"
    assert (ROOT / "examples" / "first_agent.py").read_text() == shipped.read_text()


def test_an_agent_imports_little() -> None:
    """`spanpost.agent` imports neither the SDK nor another package of spanpost into an agent's process."""
    code = (
        "import json, sys, spanpost.agent;"
        "print(json.dumps(sorted(m for m in sys.modules if m.split('.')[0] in ('spanpost', 'pydantic', "
        "'msgspec', 'asyncpg') or m.startswith('opentelemetry.sdk'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    brought = {name for name in json.loads(done.stdout) if not name.startswith("spanpost.agent")}
    assert brought <= {"spanpost", "spanpost.semconv"}


@pytest.mark.slow
def test_an_agent_needs_no_driver_of_a_database() -> None:
    """The memory store, which `spanpost.attach()` opens without settings, works where asyncpg is not installed."""
    code = "import sys; sys.modules['asyncpg'] = None; import spanpost.app, spanpost.store.memory"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
