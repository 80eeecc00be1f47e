#!/bin/bash
# Run the agent beside a gateway. A person, here this script, answers its question. The first run builds the client.
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -e node_modules/@spanpost/agent ]; then
  (cd ../../clients/typescript && npm ci --silent --no-audit --no-fund && npm run --silent build)
  npm install --silent --no-audit --no-fund --no-package-lock
fi
if [ -z "${SPANPOST_URL:-}" ]; then exec ../with_gateway "$PWD/run.sh"; fi
node agent.mjs &
until env -u SPANPOST_URL spanpost decide release-js approve --as mina --yes >/dev/null 2>&1; do sleep 0.2; done
wait $!
spanpost tasks --json | python3 -c '
import json, sys
for task in json.load(sys.stdin)["tasks"]:
    print(task["agent_name"], "|", task["name"], "|", task["status"])'
