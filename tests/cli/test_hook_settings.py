"""Hooks in settings files of coding agents: merged in, taken out exactly, never at the cost of somebody's file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.cli import jsonc
from spanpost.cli.hook_settings import FILES, HookOptions, change, merged, without
from spanpost.model.errors import ConfigError

HOOKS = FILES["claude-code"].hooks(HookOptions("http://127.0.0.1:4318", 590))
OTHERS = """{
  // my own
  "model": "opus", /* kept */
  "hooks": {
    "PermissionRequest": [
      {"matcher": "Bash", "hooks": [{"type": "command", "command": "./mine"}]}, // first
    ],
    "Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]
  }
}
"""

_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_groups = st.lists(
    st.fixed_dictionaries({"matcher": st.text(max_size=4), "hooks": st.lists(_plain, min_size=1, max_size=2)}),
    min_size=1,
    max_size=3,
)
_files = st.fixed_dictionaries(
    {"model": _plain},
    optional={
        "hooks": st.dictionaries(st.sampled_from(["PermissionRequest", "PreToolUse", "Stop"]), _groups, min_size=1)
    },
)


@given(_files, st.sampled_from([None, 2, "\t"]), st.sampled_from(sorted(FILES)))
def test_what_was_merged_is_taken_out_exactly(content: dict[str, Any], indent: Any, program: str) -> None:
    """Any file with hooks merged in has these and all its own; twice is once; taken out, its values are as before."""
    text = json.dumps(content, indent=indent)
    hooks = FILES[program].hooks(HookOptions("https://spanpost.example", 60, has_budgets=True))
    with_hooks = merged(text, hooks)
    read = json.loads(with_hooks)
    for event, groups in content.get("hooks", {}).items():
        assert read["hooks"][event][: len(groups)] == groups
    assert all(read["hooks"][event][-1] == group for event, group in hooks.items())
    assert merged(with_hooks, hooks) == with_hooks
    assert json.loads(without(with_hooks)) == content
    assert without(text) == text


def test_comments_and_other_hooks_stay() -> None:
    """Comments, trailing commas and other people's hooks are as before after both ways, byte by byte."""
    with_hooks = merged(OTHERS, HOOKS)
    assert all(part in with_hooks for part in ("// my own", "/* kept */", "// first", "./mine", "say done"))
    assert len(jsonc.read(with_hooks).value["hooks"]["PermissionRequest"]) == 2
    assert without(with_hooks) == OTHERS


def test_another_address_replaces_the_first() -> None:
    """Installing again with another address leaves one hook, the new one."""
    again = merged(merged("{}", HOOKS), FILES["claude-code"].hooks(HookOptions("https://other.example", 590)))
    [group] = json.loads(again)["hooks"]["PermissionRequest"]
    assert [hook["url"] for hook in group["hooks"]] == ["https://other.example/control/v1/hooks/claude-code?wait=590"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"text"', '{"hooks": []}', '{"hooks": {"Stop": {}}}', "{'a': 1}", "{} {}", '{"a": 1 "b": 2}', "\0"],
)
def test_a_file_that_is_no_settings_stays(text: str, tmp_path: Path) -> None:
    """A file that cannot be read as settings is refused with its name and line, and stays as it is."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="nothing was changed"):
        change(path, lambda text: merged(text, HOOKS))
    assert (path.read_text(), os.listdir(tmp_path)) == (text, ["settings.json"])


def test_a_link_and_its_mode_stay(tmp_path: Path) -> None:
    """A settings file that is a link stays one, and keeps its mode; a missing one is made."""
    real, link = tmp_path / "real.json", tmp_path / "a" / "settings.json"
    link.parent.mkdir()
    real.write_text("{}")
    real.chmod(0o600)
    link.symlink_to(real)
    assert change(link, lambda text: merged(text, HOOKS))
    assert not change(link, lambda text: merged(text, HOOKS))
    assert (link.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o600)
    assert change(tmp_path / "b" / "settings.json", lambda text: merged(text, HOOKS))


def test_no_token_is_written() -> None:
    """The settings name the variable of the token, and nothing of its value."""
    for file in FILES.values():
        said = json.dumps(file.hooks(HookOptions("http://h", 5)))
        assert "Bearer" not in said or "Bearer $SPANPOST_CONTROL__TOKEN" in said
