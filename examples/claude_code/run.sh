#!/bin/bash
# Ask what Claude Code asks before a command, and answer it as a person would: from the command line, here.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${SPANPOST_URL:-}" ]; then exec ../with_gateway "$PWD/run.sh"; fi
curl --silent --data @prompt.json --header 'content-type: application/json' \
  "$SPANPOST_URL/control/v1/hooks/claude-code?wait=60" >answer.json &
trap 'rm -f answer.json' EXIT
until question=$(spanpost approvals list --json | python3 -c '
import json, sys
[one] = [one for one in json.load(sys.stdin)["approvals"] if one["state"] == "open"]
print(one["key"], "|", one["question"], "| risk", one["risk"])' 2>/dev/null); do sleep 0.2; done
echo "asked:${question#* |}"
env -u SPANPOST_URL spanpost decide "${question%% *}" approve --as mina --yes >/dev/null 2>&1
wait
python3 -c 'import json; print("Claude Code reads:", json.load(open("answer.json"))["hookSpecificOutput"]["decision"]["behavior"])'
