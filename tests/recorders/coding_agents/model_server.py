"""A stub of the model services that coding agents call: Anthropic, OpenAI (responses, chat) and Gemini.

A prompt names its script (`Script-ok: ...`); the number of tool results since that prompt is the step. What was really
served is kept as `calls`, the truth of a recording.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.recorders import wire_forms

#: What the model does at each step of a script; after the last one it answers in text.
SCRIPTS: dict[str, list[str]] = {
    "ok": ["read hello.txt", "run echo one"],
    "toolfail": ["read missing.txt", "run ls missing-directory"],
    "llmfail": ["read hello.txt", "fail"],
    "busy": ["busy"],
    "touch": ["run touch made.txt"],
    "sub": ["delegate", "wait"],
    "child": ["read hello.txt"],
    "say": [],
}
_MARK = re.compile(r"Script-(\w+):")
#: Tools by what they are for, best first.
TOOLS = {
    "read": ("Read", "read_file", "view", "read"),
    "run": ("Bash", "exec_command", "shell_command", "run_shell_command", "bash", "shell"),
    "delegate": ("Agent", "Task", "spawn_agent", "invoke_agent", "delegate_to_agent", "agent", "task", "generalist"),
    "wait": ("wait_agent", "wait"),
}
_CHILD = "Script-child: read hello.txt and say what it holds."


class ModelServer:
    """The server; `log` has each request's path and the names of its tools."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.log: list[str] = []
        self._lock, self._ids = threading.Lock(), itertools.count(1)
        self._busy: set[str] = set()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, kind, body = stub.answer(self.path, json.loads(raw or b"{}"))
                self.reply(status, kind, body)

            def do_GET(self) -> None:
                models = [{"id": "gpt-5.1-codex", "slug": "gpt-5.1-codex", "object": "model"}]
                self.reply(200, "application/json", json.dumps({"object": "list", "data": models}).encode())

            def do_HEAD(self) -> None:
                self.reply(200, "application/json", b"")

            def reply(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()

    def truth(self, run: str) -> dict[str, Any]:
        """Return what was served, as `truth.json` holds it."""
        calls = self.calls
        good = [call for call in calls if call["error"] is None]
        totals = {
            "llm_calls": len(calls),
            "llm_errors": len(calls) - len(good),
            **{
                name: sum(c[name + "_total" if name == "input" else name] for c in good)
                for name in ("input", "output", "cached_read")
            },
            "tool_calls_requested": sum(len(call["tools"]) for call in calls),
            "last_input": good[-1]["input_total"] if good else 0,
            "peak_input": max((call["input_total"] for call in good), default=0),
        }
        return {"run": run, "calls": calls, "totals": totals}

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, str, bytes]:
        """Return status, content type and body of a reply."""
        path = path.partition("?")[0]
        api = next((api for api, ends in _APIS.items() if re.search(ends, path)), None)
        if api is None:
            if path.endswith(("/count_tokens", ":countTokens")):
                return 200, "application/json", b'{"input_tokens": 1000, "totalTokens": 1000}'
            return 200, "application/json", b"{}"
        script, step, tools, text = _READ[api](asked)
        with self._lock:
            return self._serve(api, path, asked, script, step, tools, text)

    def _serve(
        self, api: str, path: str, asked: dict[str, Any], script: str, step: int, tools: dict[str, Any], text: str
    ) -> tuple[int, str, bytes]:
        actions = SCRIPTS.get(script, [])
        action = actions[step] if step < len(actions) else ""
        self.log.append(f"{path} script={script!r} step={step} {action!r} tools={sorted(map(str, tools))}")
        model = asked.get("model") or path.rpartition("/")[2].partition(":")[0]
        call: dict[str, Any] = {"api": api, "model": model, "script": script}
        if action == "fail" or (action == "busy" and script not in self._busy):
            self._busy.add(script)
            status = 400 if action == "fail" else 503
            self.calls.append(call | _none(status))
            return status, "application/json", _error(api, status)
        verb, _, what = action.partition(" ")
        tool = next((name for name in TOOLS.get(verb, ()) if name in tools), None)
        if verb == "read" and tool is None and action:
            verb, what = "run", f"cat {what}"
            tool = next((name for name in TOOLS["run"] if name in tools), None)
        number = next(self._ids)
        cached = 800 if step else 0
        used = {"input_total": 1000 + 10 * number, "output": 20 + number, "cached_read": cached, "reasoning": 7}
        if api == "messages":
            used["reasoning"] = 0
        said = [(tool, _arguments(verb, what, tool, tools[tool]))] if tool else []
        self.calls.append(
            call
            | used
            | {"cache_write": 0, "kind": "tools" if tool else "text", "tools": [tool] if tool else [], "error": None}
        )
        answer = "It is done." if script else '{"title": "A task", "next_speaker": "user", "reasoning": "done"}'
        is_stream = bool(asked.get("stream")) or "stream" in path
        whole = wire_forms.FORMS[api][0](number, model, "" if said else answer, said, used)
        if tool and (namespace := tools[tool].get("namespace")):
            whole["output"][0]["namespace"] = namespace
        return 200, *wire_forms.body(api, whole, is_stream=is_stream)


def _none(status: int) -> dict[str, Any]:
    zeros = {"input_total": 0, "output": 0, "cached_read": 0, "reasoning": 0, "cache_write": 0}
    return zeros | {"kind": "err", "tools": [], "error": status}


def _error(api: str, status: int) -> bytes:
    message = "The request is not valid." if status == 400 else "The model is overloaded."
    if api == "gemini":
        return json.dumps({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}).encode()
    return json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()


def _arguments(verb: str, what: str, tool: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return arguments for the tool's required properties, by their names."""
    known: dict[str, Any] = {
        "description": "Does the next thing", "prompt": _CHILD, "message": _CHILD, "objective": _CHILD, "task": _CHILD,
        "request": _CHILD, "command": what, "cmd": what, "is_background": False, "run_in_background": False,
        "task_name": "reader", "name": "reader", "items": None, "mode": "sync", "fork_turns": "none",
    }  # fmt: skip
    for name in ("file_path", "absolute_path", "filePath", "path"):
        known[name] = "{cwd}/" + what
    properties = schema.get("properties") or {}
    for name in ("subagent_type", "agent_type", "agent_name"):
        words = (properties.get(name) or {}).get("enum") or []
        plain = [word for word in words if word in ("general-purpose", "generalist", "default", "explore")]
        known[name] = (plain or words or ["generalist" if tool == "invoke_agent" else "general-purpose"])[0]
    said = {name: known[name] for name in schema.get("required") or properties if known.get(name) is not None}
    if tool == "shell":
        said["command"] = ["bash", "-lc", what]
    if verb == "delegate" and "prompt" not in said and "message" in properties:
        said["message"] = _CHILD
    if tool == "exec_command" and what.startswith("touch"):
        said |= {"sandbox_permissions": "require_escalated", "justification": "May I make the file?"}
    return json.loads(json.dumps(said).replace("{cwd}", ModelServerHome.path)) if said else said


class ModelServerHome:
    """The directory that file paths of tools begin with."""

    path = ""


# --- reading requests -------------------------------------------------------------------------------------------------


def _script(messages: list[tuple[str, int]]) -> tuple[str, int, str]:
    """Return the script of the last message that names one, and how many tool results follow it."""
    script, step, found = "", 0, ""
    for text, results in messages:
        marks = _MARK.findall(text)
        if marks and not results:
            script, step, found = marks[-1], 0, text
        else:
            step += results
    return script, step, found


def _texts(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    return " ".join(str(part.get("text") or "") for part in parts or () if isinstance(part, dict))


def _read_messages(asked: dict[str, Any]) -> tuple[str, int, dict[str, Any], str]:
    messages = []
    for one in asked.get("messages") or ():
        content = one.get("content")
        parts = content if isinstance(content, list) else []
        results = sum(part.get("type") == "tool_result" for part in parts)
        messages.append((_texts(content) if one.get("role") == "user" else "", results))
    tools = {tool.get("name"): tool.get("input_schema") or {} for tool in asked.get("tools") or ()}
    return (*_script(messages)[:2], tools, "")


def _read_responses(asked: dict[str, Any]) -> tuple[str, int, dict[str, Any], str]:
    messages = []
    given = asked.get("input") or ()
    for one in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        is_result = str(one.get("type", "")).endswith("call_output")
        is_user = one.get("role") == "user" or one.get("type") == "agent_message"
        messages.append((_texts(one.get("content")) if is_user else "", int(is_result)))
    tools: dict[str, Any] = {}
    for tool in asked.get("tools") or ():
        for inner in tool.get("tools") or [tool]:
            group = {"namespace": tool["name"]} if inner is not tool else {}
            tools[inner.get("name") or inner.get("type")] = (inner.get("parameters") or {}) | group
    return (*_script(messages)[:2], tools, "")


def _read_chat(asked: dict[str, Any]) -> tuple[str, int, dict[str, Any], str]:
    messages = []
    for one in asked.get("messages") or ():
        is_result = one.get("role") == "tool"
        messages.append((_texts(one.get("content")) if one.get("role") == "user" else "", int(is_result)))
    tools = {}
    for tool in asked.get("tools") or ():
        function = tool.get("function") or {}
        tools[function.get("name") or (tool.get("custom") or {}).get("name")] = function.get("parameters") or {}
    return (*_script(messages)[:2], tools, "")


def _read_gemini(asked: dict[str, Any]) -> tuple[str, int, dict[str, Any], str]:
    messages = []
    for one in asked.get("contents") or ():
        parts = one.get("parts") or []
        results = sum("functionResponse" in part for part in parts)
        messages.append((_texts(parts) if one.get("role") == "user" else "", results))
    tools = {}
    for tool in asked.get("tools") or ():
        for function in tool.get("functionDeclarations") or ():
            tools[function["name"]] = function.get("parametersJsonSchema") or function.get("parameters") or {}
    return (*_script(messages)[:2], tools, "")


_APIS = {
    "messages": r"/messages$",
    "responses": r"/responses$",
    "chat": r"/chat/completions$",
    "gemini": r":(stream)?[gG]enerateContent$",
}
_READ = {"messages": _read_messages, "responses": _read_responses, "chat": _read_chat, "gemini": _read_gemini}
