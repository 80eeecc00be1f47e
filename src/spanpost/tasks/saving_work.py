"""Tool calls that a budget which is used up still lets through, so that no work is lost: `git commit` and the like.

Rules. A tool is named in full. A command of a shell is let through only as one plain command: its first words
are those of the setting, and it holds nothing by which a shell runs, expands or redirects anything, not even
within quotes. Options by which git runs another program are refused in every spelling that git accepts.
Everything that is not understood is refused. Nothing is granted by it: the agent's own permissions still hold.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

#: Tools that only write down what is left to do.
TOOLS: Final = ("TodoWrite", "update_plan", "write_todos")
COMMANDS: Final = ("git add", "git commit", "git stash", "git push", "git status")
#: Tools of coding agents that run a command.
SHELLS: Final = frozenset(
    ("bash", "shell", "local_shell", "exec_command", "run_shell_command", "run_terminal_cmd", "execute_command")
)
#: Inputs of these tools that hold the command, and inputs that change nothing about what runs.
_COMMANDS: Final = ("command", "cmd")
_LONGEST: Final = 20_000
_OUTSIDE: Final = r"[A-Za-z0-9 _./:,@+%=-]"
_PLAIN: Final = re.compile(rf"""(?:{_OUTSIDE}|'[^'\n\r\0;&|`$<>\\]*'|"[^"\n\r\0;&|`$<>\\!]*")+\Z""")
_SHELL: Final = re.compile(r"(?:/usr)?(?:/bin/)?(?:bash|sh|zsh|dash)\Z")
_RUNS: Final = frozenset(("-c", "-lc"))
#: Options by which git runs a program, writes to another file or reads other settings.
_HARMFUL: Final = (
    "--exec", "--receive-pack", "--upload-pack", "--ext-diff", "--textconv", "--config", "--config-env", "--exec-path",
    "--output", "--edit", "--interactive", "--patch",
)  # fmt: skip


def saves_work(tools: Sequence[str], commands: Sequence[str], tool: str, tool_input: Mapping[str, Any] | None) -> bool:
    """Tell whether a tool call only saves work, by the names and the commands that the settings let through."""
    if tool in tools:
        return True
    if tool.casefold() not in SHELLS or not isinstance(tool_input, Mapping):
        return False
    given = [tool_input[name] for name in _COMMANDS if name in tool_input]
    words = _words(given[0]) if len(given) == 1 else None
    if words is None or any(map(_is_harmful, words)):
        return False
    return any(words[: len(first)] == first for first in map(str.split, commands) if first)


def _words(command: object) -> list[str] | None:
    """Return the words of one plain command; None for anything else."""
    if isinstance(command, (list, tuple)):
        words = list(command)
        if not words or not all(isinstance(word, str) for word in words):
            return None
        if not _SHELL.match(words[0]):
            return words if not any("\n" in word or "\0" in word for word in words) else None
        if len(words) != 3 or words[1] not in _RUNS:
            return None
        command = words[2]
    if not isinstance(command, str) or len(command) > _LONGEST or not _PLAIN.match(command):
        return None
    try:
        return shlex.split(command)
    except ValueError:
        return None


def _is_harmful(word: str) -> bool:
    """Tell whether a word is such an option, in full or as git completes it from its beginning."""
    name = word.split("=", 1)[0]
    return len(name) > 2 and name.startswith("--") and any(option.startswith(name) for option in _HARMFUL)
