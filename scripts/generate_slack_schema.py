"""Make the JSON Schema of Slack's messages from Slack's own TypeScript types.

Run ``python scripts/generate_slack_schema.py``.

Needs node and npm. `@slack/types` and `@slack/web-api` (MIT, Slack Technologies) are turned by
`ts-json-schema-generator`; Only the definitions that a message or its edit can reach stay, without their
descriptions. Where the types allow anything beside the intended values, only the intended ones stay. They
say nothing of lengths and counts: those are in `tests/sinks/slack_limits.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "tests" / "sinks" / "slack.schema.json"
PACKAGES = {
    "@slack/types": "3.2.0",
    "@slack/web-api": "8.2.0",
    "ts-json-schema-generator": "2.4.0",
    "typescript": "7.0.2",
}
ROOT = """
import type { KnownBlock, MessageAttachment } from '@slack/types';
import type { ChatPostMessageArguments, ChatUpdateArguments, FilesGetUploadURLExternalArguments } from '@slack/web-api';
export type Blocks = KnownBlock[];
export type Attachments = MessageAttachment[];
export type Post = ChatPostMessageArguments;
export type Update = ChatUpdateArguments;
export type GetUploadUrl = FilesGetUploadURLExternalArguments;
"""
WANTED = ("Blocks", "Attachments", "Post", "Update", "GetUploadUrl")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="slack-schema-") as where:
        directory = Path(where)
        (directory / "root.ts").write_text(ROOT)
        options = {
            "target": "es2022",
            "module": "nodenext",
            "moduleResolution": "nodenext",
            "strict": True,
            "skipLibCheck": True,
        }
        (directory / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        run(["npm", "install", "--no-audit", "--no-fund", "--silent", *wanted], directory)
        generator = [
            "npx",
            "ts-json-schema-generator",
            "--path",
            "root.ts",
            "--tsconfig",
            "tsconfig.json",
            "--type",
            "*",
        ]
        run([*generator, "--no-type-check", "--expose", "all", "--out", "schema.json"], directory)
        whole = json.loads((directory / "schema.json").read_text())
    definitions = whole["definitions"]
    kept = reached(definitions, WANTED)
    schema = {
        "$schema": whole["$schema"],
        "$comment": f"Made by scripts/generate_slack_schema.py from @slack/types {PACKAGES['@slack/types']} and "
        f"@slack/web-api "
        f"{PACKAGES['@slack/web-api']}, (c) Slack Technologies, LLC, MIT License "
        f"(https://github.com/slackapi/node-slack-sdk).",
        "definitions": {name: without_prose(definitions[name]) for name in sorted(kept)},
    }
    TARGET.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
    print(f"{TARGET}: {len(kept)} definitions")


def run(command: list[str], directory: Path) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, stdout=sys.stderr, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{command[0]} failed: {error}")


def reached(definitions: dict[str, Any], names: tuple[str, ...]) -> set[str]:
    """Return the definitions that these lead to."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [ref for ref in references(definitions[name]) if ref in definitions]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].removeprefix("#/definitions/")] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in references(each)]
    return [ref for each in value for ref in references(each)] if isinstance(value, list) else []


def without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        prose = {"description"} if isinstance(value.get("description"), str) else set()
        if value.get("anyOf") and any("$ref" in one and "Record%3C" in one["$ref"] for one in value["anyOf"]):
            # `TaskCardBlock | Record<string, unknown>`: would allow anything.
            value = value | {"anyOf": [one for one in value["anyOf"] if "Record%3C" not in one.get("$ref", "")]}
        return {key: without_prose(each) for key, each in value.items() if key not in prose}
    return [without_prose(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
