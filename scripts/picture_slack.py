"""Pictures of Slack messages for the docs: those of the first page, and what each example shows.

    python scripts/picture_slack.py [NAME...]

The examples run as their pages say, with Slack's calls written to a file (`slack.preview_file`); Chromium draws the
last state of each message with its thread, as `spanpost preview` does. Written to docs/images.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from spanpost.cli.preview import _of_gallery, _photograph, _slack_style
from spanpost.sinks.slack.picture import ShownImage, page
from spanpost.sinks.slack.render import SlackMessage, Style
from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import throwaway_postgres

ROOT: Final = Path(__file__).parent.parent
IMAGES: Final = ROOT / "docs" / "images"
#: Captions of the pieces that the first page shows, and the width of its picture.
FIRST: Final = ("working", "waiting for a person", "complete")
WIDTH: Final = 700
#: Examples whose tasks have a message, with the script's own command if it is no `run.sh`.
EXAMPLES: Final = (
    "pipeline", "errors", "parallel", "approve_in_web_app", "queue_worker", "launcher_chain", "tenants",
)  # fmt: skip
#: A picture of the docs stays below this size.
MOST_BYTES: Final = 100_000


def first(png: Path) -> None:
    """Draw three states of one task, without their threads."""
    pieces = {one.caption: one for one in _of_gallery(Style.RICH, _slack_style(True, None))}
    shown = [ShownImage(message=pieces[caption].message, caption=caption) for caption in FIRST]
    _photograph(page(shown), png, is_dark=False, width=WIDTH)


def calls_of(name: str, dsn: str) -> list[dict[str, Any]]:
    """Run an example by the command of its page; return the calls of Slack."""
    readme = (ROOT / "examples" / name / "README.md").read_text()
    [command] = re.findall(r"^```bash\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="spanpost-example-") as home:
        folder = Path(home) / "examples" / name  # a copy: its path is in stack traces
        shutil.copytree(ROOT / "examples" / name, folder)
        shutil.copy(ROOT / "examples" / "with_gateway", folder.parent)
        calls = Path(home) / "calls.jsonl"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPANPOST_", "OTEL_"))}
        chosen = {
            "CHANNEL": "#agents", "PREVIEW_FILE": str(calls), "INTERVAL": "PT0S", "POSTS_PER_MINUTE": "60000",
            "POSTS_PER_CHANNEL_PER_MINUTE": "60000", "EDITS_PER_MINUTE": "60000",
        }  # fmt: skip
        environment = kept | {f"SPANPOST_SLACK__{key}": value for key, value in chosen.items()}
        environment |= {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
        if "run.sh" in command:
            environment["DATABASE_URL"] = dsn
        subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, check=True, timeout=150)
        return [json.loads(line) for line in calls.read_text().splitlines()]


def messages_of(calls: list[dict[str, Any]]) -> list[ShownImage]:
    """Return the last state of each message, with its thread; posts have the numbers that the preview gave them."""
    shown: dict[str, SlackMessage] = {}
    threads: dict[str, list[str]] = {}
    posted = 0
    for call in calls:
        arguments = call["arguments"]
        if call["method"] not in ("chat.postMessage", "chat.update"):
            continue
        message = SlackMessage(
            text=arguments.get("text", ""), blocks=arguments.get("blocks", []),
            attachments=arguments.get("attachments", []),
        )  # fmt: skip
        ts = arguments.get("ts")
        if ts is None:
            posted += 1
            ts = f"0.{posted:06d}"
            threads.setdefault(arguments.get("thread_ts") or ts, [])
            if thread := arguments.get("thread_ts"):
                threads[thread].append(ts)
        shown[ts] = message
    return [ShownImage(message=shown[root], replies=[shown[one] for one in below]) for root, below in threads.items()]


def main(names: list[str]) -> None:
    """Draw the pictures of these examples, or all, with that of the first page."""
    if not names or "first" in names:
        first(IMAGES / "slack-first.png")
    wanted = [name for name in EXAMPLES if not names or name in names]
    for name in wanted:
        with throwaway_postgres() as dsn:
            asyncio.run(upgrade(dsn))
            png = IMAGES / "examples" / f"{name.replace('_', '-')}.png"
            png.parent.mkdir(exist_ok=True)
            _photograph(page(messages_of(calls_of(name, dsn))), png, is_dark=False, width=WIDTH)
    for png in [IMAGES / "slack-first.png", *(IMAGES / "examples").glob("*.png")]:
        if png.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{png} has {png.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


if __name__ == "__main__":
    main(sys.argv[1:])
