#!/bin/bash
# Make a token for each customer, let the service work for both, and look with each customer's own token.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${SPANPOST_URL:-}" ]; then exec ../with_gateway "$PWD/run.sh"; fi
for customer in acme globex; do
  token=$(env -u SPANPOST_URL spanpost token new --name "$customer-$$" --tenant "$customer" --scope send --scope viewer 2>/dev/null)
  export "TOKEN_${customer^^}=$token"
  until SPANPOST_TOKEN=$token spanpost tasks >/dev/null 2>&1; do sleep 0.2; done # a new token is known after two seconds
done
python3 service.py
for customer in acme globex; do
  token=TOKEN_${customer^^}
  SPANPOST_TOKEN=${!token} spanpost tasks --json | python3 -c '
import json, sys
for task in json.load(sys.stdin)["tasks"]:
    print(sys.argv[1], "sees:", task["name"], "|", task["status"])' "$customer"
done
