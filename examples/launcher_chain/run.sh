#!/bin/bash
# Start the first agent of the chain, wait for the last one, and list all.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${SPANPOST_URL:-}" ]; then exec ../with_gateway "$PWD/run.sh"; fi
python3 agent.py fixer "Fix the till"
until spanpost tasks --agent announcer --status complete --json | grep --quiet announcer; do sleep 0.2; done
spanpost tasks --json | python3 -c '
import json, sys
for task in sorted(json.load(sys.stdin)["tasks"], key=lambda task: task["started_at"]):
    print(task["agent_name"], "|", task["name"], "|", task["status"])'
