"""Settings files of coding CLIs: spanpost's hooks are merged in and taken out; everything else stays as it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from spanpost.cli import jsonc
from spanpost.control_protocol import DEFER, HOOKS
from spanpost.model.errors import ConfigError

#: Variable with the token. The file names it, and never has the token.
TOKEN_VARIABLE: Final = "SPANPOST_CONTROL__TOKEN"
#: Seconds that the program waits longer than the hook.
_MARGIN: Final = 10
#: Seconds for an answer to a deferred call, besides the margin.
_DEFERRING: Final = 20


class HookOptions(NamedTuple):
    """What is installed."""

    url: str
    wait: int
    #: Also ask before each call whether a budget refuses it.
    has_budgets: bool = False
    #: Only the calls of headless runs, which end at a call that waits for people.
    is_deferring: bool = False
    #: The tools whose calls are deferred, as the program matches them.
    matcher: str = "*"


class HookFile(NamedTuple):
    """The settings file of one program."""

    directory: str
    name: str
    #: Variable that names the user's directory.
    home: str
    #: The hooks, by event.
    hooks: Callable[[HookOptions], Mapping[str, Any]]
    wait: int

    def path(self, scope: str) -> Path:
        """Return the file of a user or of the project in this directory."""
        if scope == "project":
            return Path(self.directory) / self.name
        given = os.environ.get(self.home)
        return (Path(given) if given else Path.home() / self.directory) / self.name


def _claude_code(said: HookOptions) -> dict[str, Any]:
    def hook(query: str, wait: int) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer ${TOKEN_VARIABLE}"}
        url = f"{said.url}{HOOKS}claude-code{query}"
        asked = {"type": "http", "url": url, "timeout": wait + _MARGIN}
        return asked | {"headers": headers, "allowedEnvVars": [TOKEN_VARIABLE]}

    if said.is_deferring:
        own = hook(f"?{DEFER}=true", _DEFERRING) | {"onFailure": "block"}  # else an error lets an allowed tool run
        return {"PreToolUse": {"matcher": said.matcher, "hooks": [own]}}
    hooks: dict[str, Any] = {"PermissionRequest": {"matcher": "*", "hooks": [hook(f"?wait={said.wait}", said.wait)]}}
    # It keeps the connection of a hook when somebody answers at the terminal: these say that it was settled.
    hooks |= {"PostToolUse": {"matcher": "*", "hooks": [hook("", 5)]}, "Stop": {"hooks": [hook("", 5)]}}
    if said.has_budgets:
        hooks["PreToolUse"] = {"matcher": "*", "hooks": [hook("", 5)]}
    return hooks


def _codex(said: HookOptions) -> dict[str, Any]:
    def hook(wait: int) -> dict[str, Any]:
        command = f"spanpost hook codex --url {said.url} --wait {wait}"
        return {"matcher": "*", "hooks": [{"type": "command", "command": command, "timeout": wait + _MARGIN}]}

    return {"PermissionRequest": hook(said.wait), **({"PreToolUse": hook(5)} if said.has_budgets else {})}


def _gemini_cli(said: HookOptions) -> dict[str, Any]:
    def hook(wait: int) -> dict[str, Any]:
        command = f"spanpost hook gemini-cli --url {said.url} --wait {wait}"
        own = {"type": "command", "name": "spanpost", "command": command, "timeout": (wait + _MARGIN) * 1000}
        return {"matcher": "*", "hooks": [own]}

    return {"Notification": hook(5), **({"BeforeTool": hook(5)} if said.has_budgets else {})}


#: By the program's name.
FILES: Final[Mapping[str, HookFile]] = {
    "claude-code": HookFile(".claude", "settings.json", "CLAUDE_CONFIG_DIR", _claude_code, 590),
    "codex": HookFile(".codex", "hooks.json", "CODEX_HOME", _codex, 60),
    "gemini-cli": HookFile(".gemini", "settings.json", "GEMINI_DIR", _gemini_cli, 5),
}


def is_ours(hook: Any) -> bool:
    """Tell whether a hook is one that spanpost installed."""
    if not isinstance(hook, dict):
        return False
    url, command = str(hook.get("url", "")), str(hook.get("command", ""))
    return HOOKS in url or command.startswith("spanpost hook ")


def merged(text: str, hooks: Mapping[str, Any]) -> str:
    """Return the text with these hooks, and without others of spanpost. Raises `BadJson`."""
    if _own(_checked(text)) == [
        (event, group.get("matcher"), hook) for event, group in hooks.items() for hook in group["hooks"]
    ]:
        return text
    text = without(text)
    for event, group in hooks.items():
        root = _checked(text)
        path = list(jsonc.found(root, "hooks", event))
        if len(path) == 2:
            text = jsonc.added(text, path[1], group)
        elif path:
            text = jsonc.added(text, path[0], [group], event)
        else:
            text = jsonc.added(text, root, {event: [group]}, "hooks")
    return text


def without(text: str) -> str:
    """Return the text without spanpost's hooks, and without what held them alone. Raises `BadJson`."""
    while (fewer := _one_less(text)) is not None:
        text = fewer
    return text


def _own(root: jsonc.JsonNode) -> list[tuple[str, Any, Any]]:
    hooks = root.value.get("hooks", {})
    groups = [(event, group) for event, groups in hooks.items() if isinstance(groups, list) for group in groups]
    return [
        (event, group.get("matcher"), hook)
        for event, group in groups
        if isinstance(group, dict) and isinstance(group.get("hooks"), list)
        for hook in group["hooks"]
        if is_ours(hook)
    ]


def _one_less(text: str) -> str | None:
    """Take one hook of spanpost out, with what held nothing else; None: there is none."""
    root = _checked(text)
    hooks = root.get("hooks")
    for e, (_, _, groups) in enumerate(hooks.members if hooks is not None else ()):
        for g, (_, _, group) in enumerate(groups.members if not groups.is_object else ()):
            own = group.get("hooks")
            for h, (_, _, hook) in enumerate(own.members if own is not None and not own.is_object else ()):
                if not is_ours(hook.value):
                    continue
                assert hooks is not None
                assert own is not None
                if len(own.members) > 1:
                    return jsonc.removed(text, own, h)
                if len(groups.members) > 1:
                    return jsonc.removed(text, groups, g)
                if len(hooks.members) > 1:
                    return jsonc.removed(text, hooks, e)
                at = next(i for i, (name, _, _) in enumerate(root.members) if name == "hooks")
                return jsonc.removed(text, root, at)
    return None


def _checked(text: str) -> jsonc.JsonNode:
    root = jsonc.read(text or "{}")
    if not root.is_object:
        raise jsonc.BadJson("line 1: an object was expected")
    hooks = root.value.get("hooks", {})
    if not isinstance(hooks, dict) or not all(isinstance(groups, list) for groups in hooks.values()):
        raise jsonc.BadJson("its `hooks` are no object of lists")
    return root


def read_file(path: Path) -> str:
    """Return a settings file, `{}` where there is none. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "{}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it cannot be read ({error}); nothing was changed") from None
    return text if text.strip() else "{}\n"


def change(path: Path, edit: Callable[[str], str]) -> bool:
    """Edit a settings file; return whether it changed. Raises `ConfigError`, and then nothing has."""
    text = read_file(path)
    try:
        edited = edit(text)
        jsonc.read(edited)
    except jsonc.BadJson as error:
        raise ConfigError(f"{path}: {error}; nothing was changed: correct the file, or edit it by hand") from None
    if edited == text:
        return False
    target = path.resolve()  # a link stays one
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(edited)
            if target.exists():
                os.chmod(name, target.stat().st_mode & 0o7777)
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be written ({error.strerror}); nothing was changed") from None
    return True
