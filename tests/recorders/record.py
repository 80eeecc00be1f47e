"""Records one run of an agent program: a stub in place of its model, and a receiver for its telemetry.

``record.py OUT NAME SCRIPT -- COMMAND...`` runs the command with the stub's address in ``OPENAI_BASE_URL`` and
``GOOGLE_GEMINI_BASE_URL`` and the receiver's in ``OTEL_EXPORTER_OTLP_ENDPOINT``. SCRIPT is what the model answers, an
answer a call, the last one again and again: ``tool:NAME:{"a":1}``, ``tools:NAME:{...}|NAME:{...}``, ``text:...``,
``error:400``, or ``hang:`` (no answer before the caller leaves). A call of Anthropic's without tools is answered aside.
OUT receives ``NNN-<signal>.pb.gz`` in order of arrival, and ``truth.json``. With ``SPANPOST_FORWARD`` set to an
address, the telemetry goes on to it as well.
"""

from __future__ import annotations

import gzip
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import wire_forms


def _size(value: Any) -> int:
    return max(1, len(json.dumps(value)) // 4)


class Recorder:
    """Answers of the model in their order, what it served, and the bodies that arrived."""

    def __init__(self, name: str, script: list[str], out: Path) -> None:
        self.name, self.script, self.out = name, script, out
        self.calls: list[dict[str, Any]] = []
        self.taken = 0
        self.bodies: list[tuple[str, bytes]] = []
        self.lock = threading.Lock()

    def answer(self, api: str, model: str, asked: Any) -> tuple[int, str, list[tuple[str, Any]], dict[str, Any]]:
        """Return number, text, requested tools and the call as served."""
        with self.lock:
            number = len(self.calls)
            is_aside = api == "messages" and not asked.get("tools")
            place = min(self.taken, len(self.script) - 1)
            self.taken += not is_aside
            kind, _, rest = ("text:Done." if is_aside else self.script[place]).partition(":")
            is_lost = kind in ("error", "hang")
            tools: list[tuple[str, Any]] = []
            if kind in ("tool", "tools"):
                for one in rest.split("|") if kind == "tools" else [rest]:
                    name, _, arguments = one.partition(":")
                    tools.append((name, json.loads(arguments or "{}")))
            served = 0 if is_lost else _size(asked)
            call = {
                "api": api,
                "model": model,
                "input_total": served,
                "output": 0 if is_lost else _size(tools or rest) + 7,
                "cached_read": 16 if served > 120 and number % 2 else 0,
                "cache_write": 0,
                "kind": {"error": "err", "hang": "hang", "text": "text"}.get(kind, "tools"),
                "tools": [name for name, _ in tools],
                "error": int(rest) if kind == "error" else 499 if kind == "hang" else None,
            }
            self.calls.append(call)
            return number, "" if kind != "text" else rest, tools, call

    def arrived(self, signal: str, body: bytes) -> None:
        with self.lock:
            self.bodies.append((signal, body))

    def finish(self) -> None:
        """Write the bodies, with a made-up path of the same length for the directory, and what was served."""
        here = os.getcwd().encode()
        shown = b"/home/user/agent".ljust(len(here), b"_")[: len(here)]
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        for number, (signal, body) in enumerate(self.bodies):
            path = self.out / f"{number:03}-{signal}.pb.gz"
            path.write_bytes(gzip.compress(body.replace(here, shown), mtime=0))
        good = [c for c in self.calls if c["error"] is None]
        last = good[-1]["input_total"] if good else 0
        truth = {
            "run": self.name,
            "calls": self.calls,
            "totals": {
                "llm_calls": len(self.calls),
                "llm_errors": len(self.calls) - len(good),
                "input": sum(c["input_total"] for c in good),
                "output": sum(c["output"] for c in good),
                "cached_read": sum(c["cached_read"] for c in good),
                "tool_calls_requested": sum(len(c["tools"]) for c in good),
                "last_input": last,
                "peak_input": max((c["input_total"] for c in good), default=0),
            },
        }
        (self.out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def _handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    forward = os.environ.get("SPANPOST_FORWARD")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_POST(self) -> None:
            path, _, _ = self.path.partition("?")
            sent = self._body()
            if self.headers.get("Content-Encoding") == "gzip":
                sent = gzip.decompress(sent)
            signal = path.rpartition("/")[2]
            if signal in ("traces", "logs", "metrics"):
                recorder.arrived(signal, sent)
                if forward:
                    kind = {"Content-Type": "application/x-protobuf"}
                    urllib.request.urlopen(urllib.request.Request(f"{forward}/v1/{signal}", sent, kind)).read()
                return self._reply(200, b"", "application/x-protobuf")
            asked = json.loads(sent)
            if signal == "count_tokens":
                return self._reply(200, b'{"input_tokens": 10}')
            api = {"responses": "responses", "messages": "messages"}.get(signal, "chat")
            api = "gemini" if ":" in signal else api
            model = signal.partition(":")[0] if api == "gemini" else asked["model"]
            number, text, tools, call = recorder.answer(api, model, asked)
            if call["kind"] == "hang":
                select.select([self.connection], [], [], 60)  # readable: the caller has left
                self.close_connection = True
                return None
            if call["error"] is not None:
                why = {"code": call["error"], "message": "The stub refuses this call.", "status": "INVALID_ARGUMENT"}
                if api == "messages":
                    why["type"] = "invalid_request_error"
                return self._reply(call["error"], json.dumps({"type": "error", "error": why}).encode())
            whole = wire_forms.FORMS[api][0](number, model, text, tools, call)
            kind, body = wire_forms.body(api, whole, is_stream="stream" in signal or bool(asked.get("stream")))
            return self._reply(200, body, kind)

        def do_GET(self) -> None:
            self._reply(200, b'{"models": [], "data": []}')

        def do_HEAD(self) -> None:
            self._reply(200, b"")

    return Handler


def addresses(base: str) -> dict[str, str]:
    """Return the environment that leads to the stub and the receiver."""
    return {
        "OPENAI_BASE_URL": f"{base}/v1",
        "OPENAI_API_KEY": "stub",
        "LANGSMITH_ENDPOINT": base,
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": "stub",
        "GOOGLE_GEMINI_BASE_URL": base,
        "GEMINI_API_KEY": "stub",
        "GOOGLE_API_KEY": "stub",
        "OTEL_EXPORTER_OTLP_ENDPOINT": base,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def main() -> int:
    out, name, script, dashes, *command = sys.argv[1:]
    assert dashes == "--", __doc__
    recorder = Recorder(name, [step for step in script.split(";;") if step], Path(out))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(recorder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    given = addresses(f"http://127.0.0.1:{server.server_port}")
    done = subprocess.run(command, env={**os.environ, **given}, timeout=300)
    server.shutdown()
    recorder.finish()
    size = sum(path.stat().st_size for path in Path(out).iterdir())
    print(f"{name}: exit {done.returncode}, {len(recorder.calls)} calls, {len(recorder.bodies)} bodies, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
