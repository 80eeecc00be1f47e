"""This machine's token: created once, for this user alone, and found by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spanpost.runtime import local_token
from spanpost.runtime.local_token import found, kept, path_of
from tests.conftest import ROOT
from tests.interactions.api.served import Served


@pytest.fixture(autouse=True)
def _forget() -> None:
    kept.cache_clear()


def test_it_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask, the file is 0600; a restart and the command line read it."""
    data_dir, before = tmp_path / "there" / "spanpost", os.umask(0)
    try:
        made = kept(data_dir)
    finally:
        os.umask(before)
    assert path_of(data_dir) == tmp_path / "there" / "spanpost-token"
    assert path_of(data_dir).stat().st_mode & 0o777 == 0o600
    kept.cache_clear()
    assert kept(data_dir) == found(data_dir) == made
    assert os.listdir(tmp_path / "there") == ["spanpost-token"]


@pytest.mark.slow
def test_gateways_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    """Several processes that create it at the same moment use the same."""
    code = (
        "import sys; from pathlib import Path; from spanpost.runtime.local_token import kept; "
        "print(kept(Path(sys.argv[1])))"
    )

    def start(_: int) -> str:
        command = [sys.executable, "-c", code, str(tmp_path / "data")]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(start, range(4)))) == 1


@pytest.mark.parametrize("kind", ["readable", "a link", "a pipe", "a directory", "another's text"])
def test_a_file_that_others_have_in_their_hands_is_not_believed(tmp_path: Path, kind: str, caplog: Any) -> None:
    """A token file that others may read or redirect is left alone and reported; the token is then private."""
    path = path_of(tmp_path / "data")
    token = local_token.new_token()
    if kind == "readable":
        path.write_text(token)
        path.chmod(0o644)
    elif kind == "a link":
        (tmp_path / "elsewhere").write_text(token)
        (tmp_path / "elsewhere").chmod(0o600)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "a pipe":
        os.mkfifo(path, 0o600)
    elif kind == "a directory":
        path.mkdir(0o700)
    else:
        path.write_text("hunter2\n")
        path.chmod(0o600)
    assert found(tmp_path / "data") == ""
    made = kept(tmp_path / "data")
    assert made not in ("", token)
    assert "this machine's token cannot be saved" in caplog.text
    assert made not in caplog.text


def test_where_nothing_can_be_written_it_is_of_this_process(tmp_path: Path) -> None:
    """A directory that cannot be created does not stop the start."""
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file" / "data")


@pytest.mark.slow
def test_the_command_line_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of the same user find and print this machine's token; another directory has none."""
    monkeypatch.chdir(tmp_path)
    with Served(None, interactions=None) as served:
        data_dir = str(served.gateway.settings.database.data_dir)

        def run(*arguments: str, **more: str) -> tuple[int, str, str]:
            kept = {
                n: v for n, v in os.environ.items() if not n.startswith(("SPANPOST_", "OTEL_")) and n != "DATABASE_URL"
            }
            # A proxy of the environment is for remote hosts.
            given = {**kept, "PYTHONPATH": str(ROOT / "src"), "HTTP_PROXY": "http://127.0.0.1:9", **more}
            command = [sys.executable, "-m", "spanpost", *arguments]
            done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=90)
            return done.returncode, done.stdout, done.stderr

        listed = ("tasks", "--url", served.url, "--json")
        assert json.loads(run(*listed, "--data-dir", data_dir)[1]) == {"tasks": []}
        assert json.loads(run(*listed, SPANPOST_DATABASE__DATA_DIR=data_dir)[1]) == {"tasks": []}
        code, _, why = run(*listed, "--data-dir", str(tmp_path))
        assert (code, "spanpost token local" in why) == (1, True)
        code, out, why = run("token", "local", "--url", served.url, "--data-dir", data_dir)
        assert (code, out.strip(), served.opens(served.url + "/") in why) == (0, served.gateway.local_token, True)
        code, out, why = run("token", "local", "--data-dir", str(tmp_path))
        assert (code, out, "spanpost run" in why) == (2, "", True)
