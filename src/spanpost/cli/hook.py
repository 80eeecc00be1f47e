"""``spanpost hook``: permission prompts of coding agents, and the settings by which they come."""

from __future__ import annotations

import json
import os
from typing import Annotated, Literal

import typer

from spanpost.cli.hook_settings import FILES, TOKEN_VARIABLE, HookOptions, change, merged, without
from spanpost.cli.options import Json, print_json
from spanpost.model.errors import ConfigError

hook = typer.Typer(help="Answer permission prompts of coding agents.", no_args_is_help=True)

Program = Annotated[
    Literal["claude-code", "codex", "gemini-cli"], typer.Argument(metavar="AGENT", help=f"One of {', '.join(FILES)}.")
]
Scope = Annotated[
    Literal["user", "project"],
    typer.Option("--scope", help="Whose settings: `user` (home directory) or `project` (this directory)."),
]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0, help="Longest wait; then the agent's own prompt stands."),
]
GatewayUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Address of the gateway. [env var: SPANPOST_CONTROL__ENDPOINT]"),
]
_DEFAULT_URL = "http://127.0.0.1:4318"
_DEFERS = (
    "For runs without a terminal (claude -p) alone: at a terminal a deferred call is left to the program's own "
    "permissions."
)
_FAILS_OPEN = (
    "PreToolUse guards nothing by itself: when the gateway is away, calls that need no permission run. Keep the "
    "agent's own permissions."
)


def _passing(program: str) -> None:
    def passes(wait: Wait = 55.0, url: GatewayUrl = None) -> None:
        from spanpost.cli.hook_call import call

        call(program, ["--wait", str(wait), *(["--url", url] if url is not None else [])])

    title = f"Pass an event of {program} from standard input to the gateway, and print its answer."
    hook.command(program, help=f"{title} On any error it prints an empty answer.", short_help=title)(passes)


for _program in FILES:
    _passing(_program)


@hook.command(short_help="Show or write the settings of an agent's hooks.")
def install(
    program: Program,
    write: Annotated[bool, typer.Option("--write", help="Merge them into the file.")] = False,
    scope: Scope = "user",
    url: GatewayUrl = None,
    wait: Annotated[
        int | None,
        typer.Option("--wait", metavar="SECONDS", min=1, max=3600, help="How long a prompt waits for an answer."),
    ] = None,
    budgets: Annotated[
        bool, typer.Option("--budgets", help="Also refuse tool calls of a task whose budget is used up.")
    ] = False,
    defer: Annotated[
        bool,
        typer.Option("--defer", help="Claude Code without a terminal: the run ends at a call that people must allow."),
    ] = False,
    matcher: Annotated[
        str | None,
        typer.Option("--matcher", metavar="TOOLS", help="With --defer: the tools, such as 'Bash|Write'.  [default: *]"),
    ] = None,
) -> None:
    """Show the settings that send an agent's permission prompts to the gateway; `--write` merges them into its
    file.

    Other hooks and comments in the file stay. The token is read from SPANPOST_CONTROL__TOKEN when the agent
    runs, and is never written.
    """
    file = FILES[program]
    address = (url or os.environ.get("SPANPOST_CONTROL__ENDPOINT") or _DEFAULT_URL).rstrip("/")
    if not address.startswith(("http://", "https://")) or any(c.isspace() for c in address):
        raise ConfigError(f"--url {address[:100]!r}: it must begin with http:// or https://, without spaces")
    if defer and (program != "claude-code" or budgets or wait is not None):
        raise ConfigError("--defer is for claude-code, and takes neither --wait nor --budgets: it asks budgets itself")
    if matcher is not None and not defer:
        raise ConfigError("--matcher needs --defer")
    said = HookOptions(address, wait or file.wait, budgets, defer, matcher or "*")
    hooks = file.hooks(said)
    path = file.path(scope)
    if write:
        is_changed = change(path, lambda text: merged(text, hooks))
        print(f"{path}: {'the hooks are installed' if is_changed else 'nothing to change'}")
    else:
        print(json.dumps({"hooks": {event: [group] for event, group in hooks.items()}}, indent=2))
        typer.echo(f"Add it to {path}, or repeat with --write.", err=True)
    typer.echo(f"The agent needs {TOKEN_VARIABLE} in its environment.", err=True)
    if program == "codex":
        typer.echo("Codex asks you to review new hooks when it starts: choose to trust them.", err=True)
    if budgets:
        typer.echo(_FAILS_OPEN, err=True)
    if defer:
        typer.echo(_DEFERS, err=True)


@hook.command(short_help="Take an agent's hooks out of its settings.")
def uninstall(program: Program, scope: Scope = "user", as_json: Json = False) -> None:
    """Take spanpost's hooks out of an agent's settings, and nothing else."""
    path = FILES[program].path(scope)
    is_changed = change(path, without)
    if as_json:
        print_json({"path": str(path), "changed": is_changed})
    else:
        print(f"{path}: {'the hooks are taken out' if is_changed else 'nothing to change'}")
