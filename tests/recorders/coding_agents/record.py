"""Record the OpenTelemetry of genuine coding agents against a stub of their models.

    python -m tests.recorders.coding_agents.record AGENT RUN OUT --programs DIR

writes OUT/AGENT/RUN/NNN-signal.pb and truth.json. DIR is where npm installed the programs. No test
runs it. Nothing leaves the machine: models and telemetry are on loopback.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from tests.recorders.coding_agents.model_server import ModelServer, ModelServerHome

SIGNALS = ("traces", "logs", "metrics")


class Sink:
    """OTLP over HTTP and gRPC: keeps each body as it came, in order of arrival."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.number, self.lock = directory, 0, threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if "chunked" in (self.headers.get("transfer-encoding") or ""):
                    body = b""
                    while size := int(self.rfile.readline().strip() or b"0", 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.keep(self.path.rpartition("/")[2], body)
                self.send_response(200)
                kind = self.headers.get("content-type") or "application/x-protobuf"
                reply = b"{}" if "json" in kind else b""
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args: Any) -> None: ...

        class Grpc(grpc.GenericRpcHandler):
            def service(self, call: Any) -> Any:
                signal = {"TraceService": "traces", "LogsService": "logs", "MetricsService": "metrics"}[
                    call.method.split("/")[1].rpartition(".")[2]
                ]

                def take(body: bytes, _: Any) -> bytes:
                    sink.keep(signal, body)
                    return b""

                return grpc.unary_unary_rpc_method_handler(take)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.grpc = grpc.server(futures.ThreadPoolExecutor(4))
        self.grpc.add_generic_rpc_handlers((Grpc(),))
        self.grpc_url = f"http://127.0.0.1:{self.grpc.add_insecure_port('127.0.0.1:0')}"
        self.grpc.start()

    def keep(self, signal: str, body: bytes) -> None:
        with self.lock:
            self.number += 1
            (self.directory / f"{self.number:03d}-{signal}.pb").write_bytes(body)

    def close(self) -> None:
        self.http.shutdown()
        self.grpc.stop(0)


class Agent:
    """One program with a home of its own. `signals`: what it exports."""

    name = ""
    #: Words that the screen shows once it takes input, and at a question.
    ready, asks = "", ""

    def __init__(self, programs: Path, stub: str, sink: Sink, signals: tuple[str, ...]) -> None:
        self.bins, self.stub, self.sink, self.signals = programs / "node_modules" / ".bin", stub, sink, signals
        self.base = Path(tempfile.mkdtemp(prefix="agent-"))
        self.home, self.repo = self.base / "home", self.base / "shop"
        self.home.mkdir()
        self.repo.mkdir()
        (self.repo / "hello.txt").write_text("hello\n")
        subprocess.run(["git", "init", "-q"], cwd=self.repo, check=True)
        keep = {"PATH": f"{self.bins}:{os.environ['PATH']}", "HOME": str(self.home), "TERM": "xterm-256color"}
        self.environment = keep | {"LANG": "C.UTF-8", "NO_PROXY": "127.0.0.1", "USER": "user", "SHELL": "/bin/bash"}
        self.prepare()

    def prepare(self) -> None:
        raise NotImplementedError

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        """Return the command of a headless run; without a prompt, of a session at a terminal."""
        raise NotImplementedError

    def bin(self, name: str) -> str:
        return str(self.bins / name)

    def run(self, prompt: str, **options: Any) -> str:
        done = subprocess.run(
            self.command(prompt, **options), env=self.environment, cwd=self.repo, text=True, timeout=120,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        print(f"exit {done.returncode}\n{done.stdout[-1500:]}")
        return done.stdout


class ClaudeCode(Agent):
    name, ready, asks = "claude-code", "❯", "Do you want to"

    def prepare(self) -> None:
        config = self.home / ".claude"
        config.mkdir()
        own = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": ["sk-stub"]}}
        trusted = {str(self.repo): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
        (config / ".claude.json").write_text(json.dumps(own | {"projects": trusted}))
        self.environment |= {
            "CLAUDE_CONFIG_DIR": str(config), "ANTHROPIC_BASE_URL": self.stub, "ANTHROPIC_API_KEY": "sk-stub",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.url, "OTEL_LOGS_EXPORT_INTERVAL": "1000",
            "OTEL_METRIC_EXPORT_INTERVAL": "2000", "OTEL_TRACES_EXPORT_INTERVAL": "1000",
            "ANTHROPIC_MODEL": "claude-sonnet-4-5",
        }  # fmt: skip
        for signal in self.signals:
            self.environment[f"OTEL_{signal.upper()}_EXPORTER"] = "otlp"
        if "traces" in self.signals:
            self.environment["CLAUDE_CODE_ENHANCED_TELEMETRY_BETA"] = "1"

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        mode = [self.bin("claude"), "--permission-mode", "default"]
        if prompt is None:
            return mode
        mode += ["-p", *(["--allowedTools", "Bash,Read,Agent,Task"] if allows else [])]
        return [*mode, *(["--continue"] if is_resumed else []), "--", prompt]


class Codex(Agent):
    name, ready, asks = "codex-cli", "›", "Would you like to run"

    def prepare(self) -> None:
        config = self.home / ".codex"
        config.mkdir()
        otel = {"logs": "exporter", "traces": "trace_exporter", "metrics": "metrics_exporter"}
        lines = [
            'model = "gpt-5.1-codex"', 'model_provider = "stub"', 'approval_policy = "on-request"',
            'sandbox_mode = "danger-full-access"' if self.allows_all else 'sandbox_mode = "workspace-write"',
            "check_for_update_on_startup = false",
            "[model_providers.stub]", 'name = "stub"', f'base_url = "{self.stub}/v1"', 'wire_api = "responses"',
            "request_max_retries = 1", "stream_max_retries = 1",
            f"[projects.{json.dumps(str(self.repo))}]", 'trust_level = "trusted"',
            "[features]", "multi_agent = true", "[otel]",
        ]  # fmt: skip
        for signal, setting in otel.items():
            value = f'{{ otlp-http = {{ endpoint = "{self.sink.url}/v1/{signal}", protocol = "binary" }} }}'
            lines.append(f"{setting} = {value}" if signal in self.signals else f'{setting} = "none"')
        (config / "config.toml").write_text("\n".join(lines) + "\n")
        self.environment |= {"CODEX_HOME": str(config)}

    allows_all = True

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        program = [self.bin("codex")]
        if prompt is None:
            return program
        return [*program, "exec", *(["resume", "--last"] if is_resumed else []), "--skip-git-repo-check", prompt]


class GeminiCli(Agent):
    name, ready, asks = "gemini-cli", "Type your message", "Allow execution"
    folder, program = ".gemini", "gemini"

    def prepare(self) -> None:
        config = self.home / self.folder
        config.mkdir()
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
            "model": {"name": "gemini-2.5-pro"}, "general": {"enableAutoUpdate": False, "disableAutoUpdate": True},
            "privacy": {"usageStatisticsEnabled": False}, "experimental": {"enableAgents": True},
            "telemetry": {
                "enabled": True, "target": "local", "otlpEndpoint": self.sink.grpc_url, "logPrompts": False,
                "traces": "traces" in self.signals,
            },
        }  # fmt: skip
        (config / "settings.json").write_text(json.dumps(settings))
        self.environment |= {"GEMINI_API_KEY": "stub", "GOOGLE_GEMINI_BASE_URL": self.stub}
        self.environment |= {"GEMINI_CLI_TRUST_WORKSPACE": "true"}

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        program = [self.bin(self.program)]
        if prompt is None:
            return program
        return [
            *program,
            *(["--yolo"] if allows else []),
            *(["--resume", "latest"] if is_resumed else []),
            "-p",
            prompt,
        ]


class QwenCode(GeminiCli):
    name, ready = "qwen-code", "Type your message"
    folder, program = ".qwen", "qwen"

    def prepare(self) -> None:
        config = self.home / self.folder
        config.mkdir()
        settings = {
            "security": {"auth": {"selectedType": "openai"}, "folderTrust": {"enabled": False}},
            "model": {"name": "qwen3-coder-plus"}, "general": {"enableAutoUpdate": False, "disableAutoUpdate": True},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {
                "enabled": True, "target": "local", "otlpEndpoint": self.sink.url,
                "otlpProtocol": "http", "logPrompts": False,
            },
        }  # fmt: skip
        (config / "settings.json").write_text(json.dumps(settings))
        self.environment |= {
            "OPENAI_API_KEY": "stub",
            "OPENAI_BASE_URL": f"{self.stub}/v1",
            "OPENAI_MODEL": "qwen3-coder-plus",
        }

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        program = [self.bin(self.program)]
        if prompt is None:
            return program
        return [*program, *(["--yolo"] if allows else []), *(["--continue"] if is_resumed else []), "-p", prompt]


class Copilot(Agent):
    name, ready, asks = "copilot-cli", "❯", "Do you want to"

    def prepare(self) -> None:
        self.environment |= {
            "COPILOT_OTEL_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.url, "COPILOT_OFFLINE": "true",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "COPILOT_PROVIDER_TYPE": "openai", "COPILOT_PROVIDER_BASE_URL": f"{self.stub}/v1",
            "COPILOT_MODEL": "gpt-5.1-codex",
            "COPILOT_PROVIDER_API_KEY": "stub", "COPILOT_AUTO_UPDATE": "false", "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        }  # fmt: skip

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        program = [self.bin("copilot"), "--no-auto-update"]
        if prompt is None:
            return program
        return [
            *program,
            *(["--allow-all-tools"] if allows else []),
            *(["--continue"] if is_resumed else []),
            "-p",
            prompt,
        ]


class OpenCode(Agent):
    name, ready, asks = "opencode", "Ask anything", "Permission required"

    def prepare(self) -> None:
        config = self.home / ".config" / "opencode"
        config.mkdir(parents=True)
        provider = {
            "npm": "@ai-sdk/openai-compatible", "name": "stub",
            "options": {"baseURL": f"{self.stub}/v1", "apiKey": "stub"},
            "models": {"stub-model": {"name": "stub-model"}},
        }  # fmt: skip
        settings = {
            "model": "stub/stub-model", "provider": {"stub": provider}, "autoupdate": False, "share": "disabled",
            "experimental": {"openTelemetry": True},
        }  # fmt: skip
        (config / "opencode.json").write_text(json.dumps(settings))
        self.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.url, "OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def command(
        self, prompt: str | None, *, session: str = "", is_resumed: bool = False, allows: bool = True
    ) -> list[str]:
        program = [self.bin("opencode")]
        if prompt is None:
            return program
        return [*program, "run", *(["--continue"] if is_resumed else []), prompt]


class Terminal:
    """A terminal with a program, kept by a tmux of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._tmux = ["tmux", "-L", f"rec-{uuid4().hex[:12]}", "-f", "/dev/null"]
        keep = ["-c", str(directory), "env", "-i", *(f"{k}={v}" for k, v in environment.items()), *command]
        subprocess.run([*self._tmux, "new-session", "-d", "-x", "130", "-y", "50", *keep], check=True)

    def screen(self) -> str:
        return subprocess.run([*self._tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout

    def until(self, what: str, is_so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                raise SystemExit(f"never: {what}\n{self.screen()}")
            time.sleep(0.2)

    def shows(self, pattern: str, times: int = 1) -> None:
        self.until(pattern, lambda: len(re.findall(pattern, self.screen())) >= times)

    def press(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", *keys], check=False, capture_output=True)

    def ask(self, prompt: str, stub: ModelServer) -> None:
        """Type a prompt, and press Enter until the model is asked: a program that starts or pastes swallows keys."""
        asked, mark = len(stub.log), prompt.partition(":")[0]
        while mark not in self.screen().rpartition("It is done")[2]:
            subprocess.run([*self._tmux, "send-keys", "-l", prompt], check=True)
            time.sleep(2)
        pressed = [0.0]

        def is_asked() -> bool:
            if time.monotonic() - pressed[0] > 3:
                self.press("Enter")
                pressed[0] = time.monotonic()
            return len(stub.log) > asked

        self.until(f"{mark} at the model", is_asked)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


AGENTS = {one.name: one for one in (ClaudeCode, Codex, GeminiCli, QwenCode, Copilot, OpenCode)}
#: The prompt of each run, and how it is run.
PROMPTS = {
    "ok": "Script-ok: read hello.txt and run a command.",
    "toolfail": "Script-toolfail: read a file that is missing.",
    "llmfail": "Script-llmfail: read hello.txt.",
    "busy": "Script-busy: say something.",
    "subagent": "Script-sub: let a sub-agent read hello.txt.",
    "touch": "Script-touch: make a file.",
    "say": "Script-say: say something.",
}


def at_terminal(agent: Agent, run: str, stub: ModelServer, *, wait: float) -> None:
    """Work at a terminal: three prompts, or one with a question that is answered."""
    terminal = Terminal(agent.command(None), agent.environment, agent.repo)
    try:
        terminal.shows(agent.ready)
        if run in ("conv", "open"):
            for number, prompt in enumerate(("say", "ok", "say") if run == "conv" else ("say",), 1):
                terminal.ask(PROMPTS[prompt], stub)
                terminal.shows("It is done", number)
                time.sleep(wait)
        else:
            terminal.ask(PROMPTS["touch"], stub)
            terminal.shows(agent.asks)
            time.sleep(wait)
            print(terminal.screen())
            terminal.press("Enter" if run == "approve" else "Escape")
            if run == "approve":
                terminal.shows("It is done")
            time.sleep(wait)
        print(terminal.screen())
        if run == "open":
            return
        terminal.press("C-c")
        time.sleep(0.3)
        terminal.press("C-c")
        time.sleep(0.3)
        terminal.press("C-d")
        time.sleep(wait)
    finally:
        terminal.close()
        time.sleep(1)


def main() -> None:
    """Record one run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("agent", choices=AGENTS)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--signals", default="traces,logs,metrics")
    parser.add_argument("--to", default="", help="send to this OTLP endpoint instead of recording")
    parser.add_argument("--wait", type=float, default=4)
    options = parser.parse_args()
    target = options.out / options.agent / options.run
    shutil.rmtree(target, ignore_errors=True)
    sink, stub = Sink(target), ModelServer()
    if options.to:
        sink.url = options.to
        sink.grpc_url = re.sub(r":(\d+)$", lambda m: f":{int(m[1]) - 1}", options.to)
    run = options.run
    kind = {"logsonly": "ok", "tracesonly": "ok", "metricsonly": "ok"}.get(run, run)
    if run.endswith("only"):
        options.signals = run.removesuffix("only")
    if run in ("approve", "deny"):
        Codex.allows_all = False
    agent = AGENTS[options.agent](options.programs, stub.url, sink, tuple(options.signals.split(",")))
    ModelServerHome.path = str(agent.repo)
    try:
        if kind in ("conv", "approve", "deny", "open"):
            at_terminal(agent, kind, stub, wait=options.wait)
        elif kind == "resume":
            agent.run(PROMPTS["say"])
            agent.run(PROMPTS["ok"], is_resumed=True)
        elif kind == "denied":
            agent.run(PROMPTS["touch"], allows=False)
        else:
            agent.run(PROMPTS[kind])
        time.sleep(1)
    finally:
        print(*stub.log, sep="\n")
        (target / "truth.json").write_text(json.dumps(stub.truth(f"{options.agent}/{run}"), indent=1) + "\n")
        sink.close()
        stub.close()
        print(f"base={agent.base}")
        print(*(f"{p.name} {p.stat().st_size}" for p in sorted(target.glob("*.pb"))), sep="\n")


if __name__ == "__main__":
    main()
