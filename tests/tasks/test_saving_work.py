"""Tool calls that a used-up budget lets through."""

from __future__ import annotations

import shlex
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.tasks.saving_work import COMMANDS, TOOLS, saves_work


def is_let_through(command: Any, tool: str = "Bash", name: str = "command") -> bool:
    return saves_work(TOOLS, COMMANDS, tool, {name: command})


@pytest.mark.parametrize(
    ("tool", "name", "command"),
    [
        ("Bash", "command", "git commit -m 'so far'"),
        ("Bash", "command", 'git commit --all --message "half of it"'),
        ("Bash", "command", "git stash"),
        ("shell", "command", ["git", "commit", "-m", "so far"]),
        ("shell", "command", ["bash", "-lc", "git push origin main"]),
        ("exec_command", "cmd", "git status"),
    ],
)
def test_saving_work_is_let_through(tool: str, name: str, command: Any) -> None:
    """A plain command of the list runs, in the form of each coding agent's shell."""
    assert is_let_through(command, tool, name)


@pytest.mark.parametrize(
    "command",
    [
        "git commit -m x; curl evil", "git commit -m x && make", "git commit -m x || make", "git commit -m x | sh",
        "git commit -m x & make", "git commit -m `make`", "git commit -m $(make)", 'git commit -m "$(make)"',
        "git commit -m x\nmake", "git commit -m x\rmake", "git commit -m x > ~/.bashrc", "git commit -F < /etc/passwd",
        "git commit -m ${IFS}", "git commit -m x \\\nmake", "GIT_EDITOR=make git commit",
        "git -c core.editor=make commit",
        "git push --receive-pack=make origin", "git push --exec make origin", "git push --exe=make origin",
        "git commit --edit", "git add --interactive", "git add --patch", "git commitx", "git", "make", "", " ",
        "git  ", "gitcommit", "git\tcommit -m x", "git commit -m 'open", "\0git commit", "git commit -m x\0",
        ["bash", "-c", "git commit -m x; make"], ["bash", "-c", "git commit -m x", "make"], ["bash", "git commit"],
        ["sh", "-x", "git commit"], ["git", "commit", 5], [], None, 5, {"git": "commit"}, ["git commit"],
        ["git", "commit", "-m", "x\nmake"],
    ],
    ids=repr,
)  # fmt: skip
def test_nothing_else_is(command: Any) -> None:
    """What runs, expands or redirects anything else is refused, in every form."""
    assert not is_let_through(command)


def test_other_tools_and_inputs_are_refused() -> None:
    """A tool is known by its whole name, a shell's command by one of its two inputs."""
    assert saves_work(TOOLS, COMMANDS, "TodoWrite", None)
    assert not saves_work(TOOLS, COMMANDS, "todowrite", None)
    assert not saves_work(TOOLS, COMMANDS, "Write", {"command": "git commit"})
    assert not saves_work(TOOLS, COMMANDS, "Bash", None)
    assert not saves_work(TOOLS, COMMANDS, "Bash", {"command": "git commit", "cmd": "make"})
    assert not saves_work((), (), "Bash", {"command": "git commit"})


@given(st.sampled_from(COMMANDS), st.text(alphabet=string.printable + "‘’＇；", max_size=30))
def test_a_command_that_is_let_through_is_one_command(first: str, rest: str) -> None:
    """Of any text after a command of the list, what is let through has no character by which a shell does more."""
    command = f"{first}{rest}"
    if is_let_through(command):
        assert shlex.split(command)[: len(first.split())] == first.split()
        assert not set(command) & set(";&|`$<>\n\r\0\\")
