"""Imports a program's packages once, then forks a process for each scenario: a framework takes seconds to import.

``python -P -m tests.recorders.python.warm PROGRAM``: a line of JSON is scenario, environment, directory and file for
the output; the answer is the exit status. spanpost is attached in the fork alone.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path

#: What `attach()` imports when it starts.
ATTACHED = ("spanpost.runtime.assembly", "spanpost.sinks.slack", "asyncpg", "alembic", "sqlalchemy.ext.asyncio")


def preload(program: Path) -> None:
    """Import what the program imports."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("tests"):
            with suppress(ImportError):
                importlib.import_module(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                preload(Path(__file__).with_name(f"{each.name}.py"))


def main() -> None:
    program = Path(sys.argv[1])
    for name in ATTACHED:
        importlib.import_module(name)
    preload(program)
    for line in sys.stdin:
        scenario, environment, directory, output = json.loads(line)
        if (pid := os.fork()) == 0:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.environ.update(environment)
            os.chdir(directory)
            sys.argv = [str(program), scenario]
            runpy.run_path(str(program), run_name="__main__")
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
