"""The command launcher with real processes: no shell, little of our environment, limits on time and output."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spanpost.launchers.carrier import Carrier
from spanpost.launchers.command import CommandLauncher, CommandSettings
from spanpost.model.errors import DeliveryRefused, DeliveryUncertain, Rejected, Unavailable
from spanpost.testing.exercise_launcher import CHECKS, an_order
from spanpost.testing.nouns import a_delivery, a_task


def _launcher(*command: str, **fields: Any) -> CommandLauncher:
    return CommandLauncher("fix", CommandSettings(command=command, **fields))


def _python(code: str, *arguments: str, **fields: Any) -> CommandLauncher:
    return _launcher(sys.executable, "-c", code, *arguments, **fields)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("background", [False, True])
async def test_it_behaves_as_a_launcher(check: Any, background: bool) -> None:
    """The command passes the suite for all launchers."""
    await check(lambda: _launcher("/bin/echo", "--", "{text}", "{parameters.repo}", background=background))


async def test_nothing_is_a_shells(tmp_path: Path) -> None:
    """Any text of an order stays in its argument, unchanged; no shell reads it."""
    file = tmp_path / "received"
    launcher = _python(
        "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))",
        str(file),
        "--",
        "{text}",
        "x {parameters.repo} {{id}}",
        "{parameters.none}",
    )
    text = "$(touch /tmp/owned); `id` && rm -rf / | cat > x\n--help 'a\" * ~"
    await launcher.launch(an_order(text=text, parameters={"repo": "{id} %s"}))
    assert json.loads(file.read_text()) == ["--", text, "x {id} %s {id}", ""]


async def test_a_text_is_no_option() -> None:
    """A text that begins with a dash is refused where it would be an option, and accepted after a --."""
    with pytest.raises(Rejected) as raised:
        await _launcher("/bin/echo", "{text}").launch(an_order(text="--help"))
    assert raised.value.reason == "dash"
    await _launcher("/bin/echo", "--", "{text}").launch(an_order(text="--help"))
    await _launcher("/bin/echo", "--text={text}").launch(an_order(text="--help"))


async def test_it_has_little_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's environment has its settings, the allowed variables and the order; no secret of spanpost."""
    monkeypatch.setenv("SPANPOST_SLACK__TOKEN", "xoxb-canary")
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary")
    monkeypatch.setenv("MY_ENDPOINT", "http://collector")
    file = tmp_path / "received"
    code = f"import json, os; json.dump(dict(os.environ), open({str(file)!r}, 'w'))"
    await _python(code, environment={"LEVEL": "3"}, pass_environment=("MY_ENDPOINT", "NOT_THERE")).launch(an_order())
    found = json.loads(file.read_text())
    assert "canary" not in file.read_text()
    assert (found["LEVEL"], found["MY_ENDPOINT"], found["PATH"]) == ("3", "http://collector", os.environ["PATH"])
    order = json.loads(found["SPANPOST_ORDER"])
    assert (order["id"], order["retry_of"], order["text"]) == (str(an_order().id), "task-1", "Fix the build")


async def test_what_an_exit_means() -> None:
    """Exit 0 is done, 75 is later, another is never; the end of its output is reported, without secrets."""
    await _python("pass").launch(an_order())
    with pytest.raises(Unavailable):
        await _python("raise SystemExit(75)").launch(an_order())
    code = "print('x' * 10_000_000); print('password=hunter22 no such branch'); raise SystemExit(3)"
    with pytest.raises(Rejected) as raised:
        await _python(code).launch(an_order())
    assert "ended with 3" in str(raised.value)
    assert "no such branch" in str(raised.value)
    assert "hunter22" not in str(raised.value)
    assert len(str(raised.value)) < 500


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """A missing command is refused with the next step and waits; `check` reports it beforehand."""
    launcher = _launcher(str(tmp_path / "none"))
    with pytest.raises(DeliveryRefused, match="cannot be run") as raised:
        await launcher.launch(an_order())
    assert "launchers.named.fix" in raised.value.cure
    [finding] = await launcher.check()
    assert (finding.ok, bool(finding.cure)) == (False, True)
    with pytest.raises(DeliveryRefused):
        await _launcher("/bin/echo", directory=tmp_path / "none").launch(an_order())


@pytest.mark.slow
async def test_it_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A command that exceeds its time is killed with its children; whether it did anything is unknown."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    # A shell starts long before the time is over, even where an interpreter needs seconds to start.
    code = f"sleep 600 & echo $$ $! >{pids}; sleep 600"
    launching = asyncio.create_task(_launcher("/bin/sh", "-c", code, timeout=3).launch(an_order()))
    mine, child = map(int, (await asyncio.to_thread(pids.read_text)).split())
    with pytest.raises(DeliveryUncertain) as raised:
        await launching
    assert raised.value.reason == "timeout"
    assert not _runs(mine)
    await asyncio.to_thread(_has_ended, child)
    assert not _runs(child)


def _has_ended(pid: int) -> None:
    """Wait until a foreign process has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([watched], [], [], 20)
    os.close(watched)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_what_goes_on_holds_nobody_up(tmp_path: Path) -> None:
    """A command is done when it ends, even if a process that it left running keeps its output open."""
    pids = tmp_path / "pids"
    code = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
        f"open({str(pids)!r}, 'w').write(str(child.pid)); print('begun')"
    )
    try:
        receipt = await _python(code, timeout=25).launch(an_order())
        assert receipt.ref["pid"]
        assert _runs(int(pids.read_text()))
    finally:
        os.kill(int(pids.read_text()), 9)


@pytest.mark.slow
async def test_the_work_itself_in_the_background(tmp_path: Path) -> None:
    """A background command is launched once it has started; one that fails at once was not."""
    gate, done = tmp_path / "gate", tmp_path / "done"
    os.mkfifo(gate)
    os.mkfifo(done)
    code = f"open({str(gate)!r}).read(); open({str(done)!r}, 'w').write('done')"
    launcher = _python(code, background=True, timeout=60)
    receipt = await launcher.launch(an_order())
    assert _runs(receipt.ref["pid"])
    await launcher.close()
    await asyncio.to_thread(gate.write_text, "go")
    assert await asyncio.to_thread(done.read_text) == "done"
    with pytest.raises(Rejected):
        await _python("raise SystemExit(2)", background=True).launch(an_order())


async def test_where_it_is_not_known_a_person_decides() -> None:
    """A command that may have started is run again, or left to a person, as the settings say."""
    delivery = a_delivery(a_task(), id=7, is_unknown=True)
    again = Carrier("fix", _launcher("/bin/echo"))
    assert await again.reconcile([delivery]) == {7: None}
    never = Carrier("fix", _launcher("/bin/echo", retry_uncertain=False))
    [answer] = (await never.reconcile([delivery])).values()
    assert getattr(answer, "reason", "") == "unverifiable"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"command": []}, "at least 1"),
        ({"command": ["{text}"]}, "program"),
        ({"command": ["x", "{nonsense}"]}, "there is no {nonsense}"),
        ({"command": ["x", "{text"]}, "brace"),
        ({"command": ["x", "a\0b"]}, "NUL"),
        ({"command": ["x"], "timeout": 60}, "background"),
        ({"command": "x; y"}, "tuple"),
        ({"command": ["x"], "shell": True}, "Extra"),
    ],
)
def test_mistakes_are_refused(said: dict[str, Any], message: str) -> None:
    """An invalid setting is refused at the start, with the reason."""
    with pytest.raises(ValidationError, match=message):
        CommandSettings(**said)
