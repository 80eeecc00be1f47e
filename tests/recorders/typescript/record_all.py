"""Records the TypeScript frameworks: ``python record_all.py DIRECTORY [FRAMEWORK[/RUN] ...]``.

DIRECTORY is one outside the tree; it receives the packages (`npm install`, newest that package.json allows) and these
programs. Recordings that exist are recorded again only where they are named. With SPANPOST_CAPTURES set, recordings are
written there and not to tests/captures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CAPTURES = Path(os.environ.get("SPANPOST_CAPTURES") or HERE.parents[1] / "captures")

W = 'tool:get_weather:{"city":"Oslo"}'
B = 'tool:get_weather:{"city":"Bergen"}'
T = "text:It rains in Oslo."
D = 'tool:delete_file:{"path":"/tmp/x"}'
J = 'text:{"city":"Oslo"}'
SH = 'tool:Bash:{"command":"ls","description":"Lists"}'
TOUCH = 'tool:Bash:{"command":"touch made.txt","description":"Makes a file"}'
#: What the model answers in each run; a framework's own table goes before.
COMMON = {
    "ok": [W, T],
    "toolfail": [W, "text:No station."],
    "llmfail": [W, "error:400"],
    "conv": [W, T, B, "text:It rains in Bergen.", "text:You are welcome."],
    "approval": [D, "text:Deleted."],
    "stream": [W, T],
    "maxsteps": [W, B, W, B, W],
    "structured": [W, J],
    "guardrail": [T],
    "cancel": [W, "hang:"],
    "agenttool": ['tool:ask_expert:{"question":"Weather in Oslo?"}', W, T, "text:Rain, says the expert."],
}
MASTRA = {
    **COMMON,
    "agenttool": ['tool:agent-weather_expert:{"prompt":"Weather in Oslo?"}', W, T, "text:Rain, they say."],
}
LANG = {
    **{k: v for k, v in COMMON.items() if k not in ("guardrail", "agenttool")},
    "structured": [W, 'tool:extract-1:{"city":"Oslo","sky":"rain"}'],
    "interrupt": COMMON["approval"],
    "handoff": [W, T, B, "text:Rain everywhere."],
}
OPENAI = {
    **COMMON,
    "structured": [W, 'text:{"city":"Oslo","sky":"rain"}'],
    "handoff": ["tool:transfer_to_weather_expert:{}", W, T],
    "agenttool": ['tool:ask_expert:{"input":"Weather in Oslo?"}', W, T, "text:Rain, says the expert."],
}
CLAUDE = {
    "ok": [SH, "text:Two files."],
    "toolfail": ['tool:Bash:{"command":"cat missing","description":"Reads"}', "text:There is no such file."],
    "llmfail": [SH, "error:400"],
    "conv": [SH, "text:Two files.", SH, "text:Still two.", "text:You are welcome."],
    "approval": [TOUCH, "text:Made."],
    "deny": [TOUCH, "text:Not made."],
    "subagent": [
        'tool:Task:{"description":"Asks","prompt":"Weather?","subagent_type":"weather_expert"}', SH, T, "text:Rain.",
    ],
    "maxsteps": [SH, SH, SH],
    "structured": ['tool:StructuredOutput:{"city":"Oslo"}', "text:Oslo."],
    "cancel": [SH, "hang:"],
}  # fmt: skip
LANGSMITH = {
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_API_KEY": "none",
}
TRACED = {name: COMMON[name] for name in ("ok", "toolfail", "llmfail", "conv", "stream", "cancel")}
#: Directory of recordings: program, environment, runs.
ALL: dict[str, tuple[str, dict[str, str], dict[str, list[str]]]] = {
    "vercel-ai-7": ("ai.mjs", {}, {**COMMON, "object": [J]}),
    "mastra": ("mastra.mjs", {}, MASTRA),
    "mastra-bridge": ("mastra.mjs", {"MASTRA_BY": "bridge"}, MASTRA),
    "langchain-js-openinference": ("langchain.mjs", {}, LANG),
    "langsmith-js": ("langsmith.mjs", LANGSMITH, TRACED),
    "openai-agents-js": ("openai_agents.mjs", {}, OPENAI),
    "genkit": ("genkit.mjs", {}, {**COMMON, "structured": [J], "flow": COMMON["ok"]}),
    "claude-agent-sdk-ts": ("claude_agent.mjs", {}, CLAUDE),
    "claude-agent-sdk-openinference": ("claude_agent.mjs", {"CLAUDE_BY": "openinference"}, CLAUDE),
}
#: What a framework cannot do.
WITHOUT = {("vercel-ai-7", "guardrail"), ("genkit", "guardrail")}


def main() -> int:
    place, *wanted = sys.argv[1:]
    work = Path(place)
    work.mkdir(parents=True, exist_ok=True)
    for path in (*HERE.glob("*.mjs"), HERE / "package.json"):
        shutil.copy(path, work)
    if not (work / "node_modules").exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps"], cwd=work, check=True)
    path = f"{work / 'node_modules/node/bin'}{os.pathsep}{os.environ['PATH']}"
    for framework, (program, environment, runs) in ALL.items():
        for run, script in runs.items():
            name = f"{framework}/{run}"
            is_wanted = {framework, name} & set(wanted) if wanted else not (CAPTURES / name).exists()
            if (framework, run) in WITHOUT or not is_wanted:
                continue
            subprocess.run(
                [sys.executable, HERE.parent / "record.py", CAPTURES / name, name, ";;".join(script), "--",
                 "node", program, run],
                env={**os.environ, **environment, "PATH": path},
                cwd=work,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
