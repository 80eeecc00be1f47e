"""The genuine Claude Code and Codex CLI as processes, offline: at a terminal (tmux), and without one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from spanpost.cli.hook_settings import FILES, HookOptions, change, merged
from tests.acceptance.stub_models import StubModels
from tests.conftest import ROOT, find
from tests.eventually import eventually

COMMAND = "touch made.txt"


class CodingAgent:
    """One program with a home and a repository of its own, whose hook asks a gateway. `defers`: about these tools."""

    program = ""
    #: Words of the program's own prompt, and of a finished run, on its screen.
    prompts, done = "", "It is done."

    def __init__(
        self, directory: Path, gateway: str, stub: StubModels, *, telemetry: str = "", defers: str = ""
    ) -> None:
        self.stub = stub
        self.home, self.repo = directory / "home", directory / "shop"
        self.made = self.repo / "made.txt"
        for path in (self.home, self.repo):
            path.mkdir(parents=True)
        bin_dir = directory / "bin"
        bin_dir.mkdir()
        script = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT / "src"))} exec {sys.executable} -m spanpost "$@"\n'
        (bin_dir / "spanpost").write_text(script)
        (bin_dir / "spanpost").chmod(0o755)
        self.environment = {
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "SPANPOST_CONTROL__TOKEN": "spt_none",
        }
        self.prepare(telemetry)
        hooks = FILES[self.program].hooks(HookOptions(gateway, 60, False, bool(defers), defers))
        path = self.home / FILES[self.program].directory / FILES[self.program].name
        change(path, lambda text: merged(text, hooks))

    def prepare(self, telemetry: str) -> None:
        """Write the program's own settings."""
        raise NotImplementedError

    def command(self, *arguments: str) -> list[str]:
        """Return the command that starts it."""
        raise NotImplementedError

    def run(self, prompt: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a run without a terminal."""
        return subprocess.Popen(
            self.command(*arguments, prompt), env=self.environment, cwd=self.repo, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @contextmanager
    def at_terminal(self, prompt: str) -> Iterator[Terminal]:
        """Run it at a terminal."""
        terminal = Terminal(self.command(prompt), self.environment, self.repo)
        try:
            yield terminal
        finally:
            terminal.close()


class ClaudeCode(CodingAgent):
    program, prompts = "claude-code", "Do you want to"

    def prepare(self, telemetry: str) -> None:
        config = self.home / ".claude"
        config.mkdir()
        own = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": ["sk-stub"]}}
        trusted = {str(self.repo): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
        (config / ".claude.json").write_text(json.dumps(own | {"projects": trusted}))
        self.environment |= {
            "CLAUDE_CONFIG_DIR": str(config),
            "ANTHROPIC_BASE_URL": self.stub.url,
            "ANTHROPIC_API_KEY": "sk-stub",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        if telemetry:
            self.environment |= {
                "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
                "OTEL_LOGS_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": telemetry,
                "OTEL_LOGS_EXPORT_INTERVAL": "500",
            }

    def command(self, *arguments: str) -> list[str]:
        # Its own default, `auto`, lets a model answer prompts: then neither people nor hooks are asked.
        return [find("claude-code"), "--permission-mode", "default", *arguments]


class Codex(CodingAgent):
    program, prompts = "codex", "Would you like to run"

    def prepare(self, telemetry: str) -> None:
        config = self.home / ".codex"
        config.mkdir()
        provider = {"name": "stub", "base_url": f"{self.stub.url}/v1", "wire_api": "responses"}
        lines = ['model = "gpt-5.1-codex"', 'model_provider = "stub"', 'approval_policy = "on-request"']
        lines += ['sandbox_mode = "workspace-write"', "check_for_update_on_startup = false", "[model_providers.stub]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in provider.items()]
        lines += [f"[projects.{json.dumps(str(self.repo))}]", 'trust_level = "trusted"']
        if telemetry:
            lines += [
                "[otel]",
                f'exporter = {{ otlp-http = {{ endpoint = "{telemetry}/v1/logs", protocol = "binary" }} }}',
            ]
        (config / "config.toml").write_text("\n".join(lines) + "\n")
        self.environment |= {"CODEX_HOME": str(config)}

    def command(self, *arguments: str) -> list[str]:
        return [find("codex"), "--dangerously-bypass-hook-trust", *arguments]


class Terminal:
    """A terminal with a program, kept by a tmux of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._tmux = [find("tmux"), "-L", f"spanpost-{uuid4().hex[:12]}", "-f", "/dev/null"]
        self._environment = environment
        size = ["-x", "130", "-y", "50"]
        keep = ["-c", str(directory), "env", "-i", *(f"{k}={v}" for k, v in environment.items()), *command]
        subprocess.run([*self._tmux, "new-session", "-d", *size, *keep], env=environment, check=True)

    def screen(self) -> str:
        """Return what is shown now."""
        shown = subprocess.run(
            [*self._tmux, "capture-pane", "-p"], env=self._environment, capture_output=True, text=True
        )
        return shown.stdout

    def shows(self, words: str) -> str:
        """Wait until the screen shows these words."""
        return eventually(self.screen, lambda screen: words in screen)

    def press(self, *keys: str) -> None:
        """Type keys, by tmux's names."""
        subprocess.run([*self._tmux, "send-keys", *keys], env=self._environment, check=True)

    def answers(self, prompts: str, key: str) -> None:
        """Wait for the program's own prompt and answer it: a key that comes too early is not read."""
        self.shows(prompts)

        def is_gone() -> bool:
            if prompts not in self.screen():
                return True
            self.press(key)
            return False

        eventually(is_gone)

    def close(self) -> None:
        """End the program and its terminal."""
        subprocess.run([*self._tmux, "kill-server"], env=self._environment, check=False, capture_output=True)
