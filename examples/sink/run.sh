#!/bin/bash
# Install the sink into a directory of its own, and run an agent with it.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check --root-user-action ignore --target "$work/lib" . # needs hatchling
PYTHONPATH=$work/lib SPANPOST_DIARY__PATH=$work/diary.txt python3 try_it.py
