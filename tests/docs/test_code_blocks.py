"""Every python, bash and toml block of README, docs and the plugins' READMEs runs, page by page.

The blocks of one page share a directory, an environment and an empty home. ``no-run: reason`` after the language
leaves a block out; a bash block's ``export`` lasts for the page. A failing block fails its page. The embedded
PostgreSQL runs throughout, so commands join it; `tests/cli/test_cli.py` proves that they start it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanpost.store.embedded import EmbeddedPostgres
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


@pytest.fixture(scope="module")
def data_dir(open_dir: Callable[[], Path]) -> Iterator[Path]:
    """Return the data directory of a running embedded PostgreSQL."""
    path = open_dir() / "data"
    server = EmbeddedPostgres(path, options=FAST)
    server.start()
    yield path
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_page(page: Path, open_dir: Callable[[], Path], data_dir: Path) -> None:
    """The page's blocks run one after the other."""
    tmp_path = open_dir()
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
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
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{page.name}:\n{code}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        if kept.exists():
            environment = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if "=" in pair)
            kept.unlink()
