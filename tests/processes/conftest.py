"""Real child processes with spanpost installed, and a PostgreSQL that shows afterwards what was recorded."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.eventually import LIMIT

ROOT = Path(__file__).parents[2]

#: The beginning of most children.
PRELUDE = """
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR1)
from opentelemetry import trace
import spanpost

def agent(name, provider=trace):
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    return provider.get_tracer("test").start_span(f"invoke_agent {name}", attributes=attributes)

def say(*words):
    os.write(1, f"{' '.join(map(str, words))}{os.linesep}".encode())  # within a handler too, which print does not allow

def pause():
    os.read(0, 1)
"""


def needs_package(name: str) -> None:
    """Skip if a package of the dev group is missing; in CI it should be there."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        reason = f"{name} is not installed: it comes with the dev group (requirements-dev.lock)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH under which spanpost is installed as pyproject.toml says now, entry points and all.

    Empty where a wheel is tested: that brings its own.
    """
    import spanpost

    if not Path(spanpost.__file__).is_relative_to(ROOT / "src"):
        return ""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"spanpost-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: spanpost\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in found.items())
        for group, found in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join([str(site), str(ROOT / "src")])


class Child:
    """A running child process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hear(self, word: str) -> str:
        """Wait for a line that begins with `word`; return the rest of it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError(f"it ended without saying {word!r}: {self.process.communicate()[1]}")

    def go_on(self) -> None:
        """Continue a child that waits in `pause()`."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, code: int = 0) -> str:
        """Wait for the end; return stderr."""
        try:
            _, said = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self._stacks()}") from None
        assert self.process.returncode == code, said
        return said

    def _stacks(self) -> str:
        """Print the stacks of all threads of the child and its children, and end them."""
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGUSR1)
            self.process.communicate(timeout=2)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate()[1]


Start = Callable[..., Child]
Run = Callable[..., str]


@pytest.fixture
def start(installed: str, tmp_path: Path) -> Iterator[Start]:
    """Lend ``start(code_or_command, **environment)``: a child in a clean environment and an empty directory."""
    with ExitStack() as stack:

        def go(what: str | list[str], keep_open: int | None = None, **environment: str) -> Child:
            if isinstance(what, str):
                script = tmp_path / "agent.py"
                script.write_text(PRELUDE + textwrap.dedent(what))
                what = [sys.executable, "-W", "ignore", str(script)]
            kept = {
                name: value
                for name, value in os.environ.items()
                if not name.upper().startswith(("SPANPOST_", "OTEL_", "PYTHONPATH")) and name != "DATABASE_URL"
            }
            process = subprocess.Popen(
                what,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env={**kept, "PYTHONPATH": installed, "HOME": str(tmp_path), **environment},
                start_new_session=True,
                pass_fds=() if keep_open is None else (keep_open,),
            )
            stack.callback(_kill, process)
            return Child(process)

        yield go


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the child and its own children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def run(start: Start) -> Run:
    """Lend ``run(code, code=exit code, **environment)``: run a child to its end and return its stderr."""

    def go(what: str | list[str], exit_code: int = 0, **environment: str) -> str:
        return start(what, **environment).end(exit_code)

    return go
