"""Every python, bash and toml block of README, docs and the plugins' READMEs runs, page by page.

The blocks of one page share a directory, an environment and an empty home. ``no-run: reason`` after the language
leaves a block out; a bash block's ``export`` lasts for the page. A failing block fails its page. The embedded
PostgreSQL runs throughout, so commands join it; `tests/cli/test_cli.py` proves that they start it. Each page has a new
database, and leaves no process.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.embedded_roles import DATABASE, READER, USER
from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import FAST

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")])
_BLOCK = re.compile(r"^```(\w+)(?: +no-run: *([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = ("python", "bash", "console", "sh", "toml")


def blocks(text: str) -> list[tuple[str, str | None, str]]:
    """Return (language, reason not to run, code) of each block."""
    return [(language, reason, code) for language, reason, code in _BLOCK.findall(text)]


def runnable(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of a page that run."""
    return [(language, code) for language, reason, code in blocks(page.read_text()) if language in _RUN and not reason]


def test_blocks_are_found() -> None:
    """The runner sees the blocks that a reader sees, with their marks."""
    text = "a\n```python\n1\n```\n```bash no-run: why\n2\n```\n```text\n3\n```\n"
    assert blocks(text) == [("python", "", "1\n"), ("bash", "why", "2\n"), ("text", "", "3\n")]
    assert sum(len(runnable(page)) for page in PAGES) >= 15


def test_every_fence_is_closed_and_known() -> None:
    """No page hides a block from the runner by an open fence or an unknown mark."""
    for page in PAGES:
        fences = re.findall(r"^```.*$", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page.read_text())), page


async def execute(server: EmbeddedPostgres, *statements: str) -> None:
    """Run statements as the superuser."""
    connection = await asyncpg.connect(server.superuser_dsn("postgres"))
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture(scope="module")
def server(open_dir: Callable[[], Path]) -> Iterator[EmbeddedPostgres]:
    """Run the embedded PostgreSQL with a database ``made``, which has the schema and no rows."""
    server = EmbeddedPostgres(open_dir() / "data", options=FAST)
    with server as dsn:
        asyncio.run(upgrade(dsn, reader=READER))
        asyncio.run(execute(server, f"ALTER DATABASE {DATABASE} RENAME TO made"))
        yield server


@pytest.fixture
def data_dir(server: EmbeddedPostgres) -> Iterator[Path]:
    """Return the data directory of the running embedded PostgreSQL, with a new database."""
    asyncio.run(
        execute(
            server,
            f"CREATE DATABASE {DATABASE} OWNER {USER} TEMPLATE made STRATEGY FILE_COPY",
            f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {DATABASE} TO {READER}",
        )
    )
    yield server.data_dir
    asyncio.run(execute(server, f"DROP DATABASE {DATABASE} WITH (FORCE)"))


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Lend a function that runs a command, and end at last what each has left in the background."""
    groups: list[int] = []

    def go(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        out, err = (cwd / ".stdout", cwd / ".stderr")
        with out.open("w") as stdout, err.open("w") as stderr:
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            groups.append(child.pid)
            child.wait(200)
        return subprocess.CompletedProcess(command, child.returncode, out.read_text(), err.read_text())

    yield go
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_page(
    page: Path,
    open_dir: Callable[[], Path],
    data_dir: Path,
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The page's blocks run one after the other."""
    tmp_path = open_dir()
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PYDANTIC_DISABLE_PLUGINS": os.environ["PYDANTIC_DISABLE_PLUGINS"],
        "SPANPOST_DATABASE__DATA_DIR": str(data_dir),
    }
    kept = tmp_path / "environment"
    for language, code in runnable(page):
        if language == "toml":
            (tmp_path / "page.toml").write_text(code)
            code = "from spanpost.settings import load; load()"
        if language in ("python", "toml"):
            command = [sys.executable, "-c", code]
        else:
            command = ["bash", "-euo", "pipefail", "-c", f"{code}\nenv -0 > {kept}"]
        extra = {"SPANPOST_CONFIG": "page.toml"} if language == "toml" else {}
        done = run(command, tmp_path, environment | extra)
        logs = "".join(f"\n--- {log.name}\n{log.read_text()}" for log in sorted(tmp_path.glob("*.log")))
        said = f"\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}{logs}"
        assert done.returncode == 0, f"{page.name}:\n{code}{said}"
        if kept.exists():
            environment = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if "=" in pair)
            kept.unlink()
