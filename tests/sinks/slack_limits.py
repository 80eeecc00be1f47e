"""Slack's limits as known without Slack: the schema of its types, its limits, and our own bounds.

Schema: `tests/sinks/slack.schema.json`, made by `scripts/generate_slack_schema.py`. Limits:
docs.slack.dev/reference/block-kit (2026-08), and for plans the list of slackblocks 3.0.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from spanpost.sinks.slack import blocks as kit
from spanpost.sinks.slack.render import SlackMessage
from spanpost.text.locales import LOCALES

#: By type of object and field: most characters of a text, or most entries of a list.
LIMITS: dict[str, dict[str, int]] = {
    "section": {"text.text": 3_000, "fields": 10},
    "context": {"elements": 10},
    "actions": {"elements": 25},
    "button": {"text.text": 75, "value": 2_000, "action_id": 255, "url": 3_000},
    "overflow": {"options": 5, "action_id": 255},
    "static_select": {"options": 100, "action_id": 255, "placeholder.text": 150},
    "plan": {"tasks": 50, "title": 256},
    "task_card": {"title": 256, "task_id": 255},
    "container": {"title.text": 150, "child_blocks": 10},
}
#: For every object that has them.
CONFIRM = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
OPTION = {"text": 75, "value": 150}
#: The two forms that are parsed, of ids and numbers alone: times, and in a message that must be plain,
#: mentions.
DATED = r"<!date\^\d{1,12}\^\{[a-z_]{1,20}\}(?: \{time\}| \(\{ago\}\))?\|\d\d:\d\d:\d\d UTC>"
_MOMENTS = (
    [
        re.escape(locale.say(key, at="@")).replace("@", DATED)
        for locale in LOCALES.values()
        for key in ("root.quiet_since", "root.started", "root.ended", "reply.until", "alert.since", "alert.resolved_at")
    ]
    + [
        # The person for whom a task runs, by an id that spanpost resolved.
        re.escape(locale.say("task.for", who="@")).replace("@", r"<@[UW][A-Z0-9]+>")
        for locale in LOCALES.values()
    ]
    + [re.escape(locale.say("digest.period", since="@", until="@")).replace("@", DATED) for locale in LOCALES.values()]
)
PARSED = re.compile(
    rf"(?:·  )?(?:{'|'.join(_MOMENTS)})"
    r"|(?:<@[UW][A-Z0-9]+>|<!subteam\^S[A-Z0-9]+>)(?: (?:<@[UW][A-Z0-9]+>|<!subteam\^S[A-Z0-9]+>))*"
)


@cache
def validator(name: str) -> jsonschema_rs.Draft7Validator:
    schema = json.loads((Path(__file__).parent / "slack.schema.json").read_text())
    return jsonschema_rs.Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": schema["definitions"]})


def blocks_of(message: SlackMessage) -> Iterator[dict[str, Any]]:
    yield from message.blocks
    for attachment in message.attachments:
        yield from attachment["blocks"]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Return every object of a payload."""
    if isinstance(value, dict):
        yield value
        for v in value.values():
            yield from nodes(v)
    elif isinstance(value, list):
        for v in value:
            yield from nodes(v)


def _at(node: dict[str, Any], path: str) -> Any:
    value: Any = node
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def check(message: SlackMessage, mentions: tuple[str, ...] = ()) -> None:
    """Check a message against Slack's types and limits and our bounds. Only ids in `mentions` may be mentioned."""
    every = list(blocks_of(message))
    post = {"channel": "C1", **message.arguments()}
    # The types are unions: as schemas, blocks and attachments know one at a time. TypeScript accepts both.
    for left_out in ("blocks", "attachments"):
        part = {name: value for name, value in post.items() if name != left_out}
        validator("Post").validate(part)
        validator("Update").validate(part | {"ts": "1.2"})
    validator("Blocks").validate(message.blocks)
    validator("Attachments").validate(message.attachments)
    assert len(message.blocks) >= 1
    assert len(every) <= kit.MAX_BLOCKS
    assert kit.size([message.blocks, message.attachments]) <= kit.MAX_SIZE
    assert 0 < len(message.text) <= kit.MAX_TEXT
    unescaped = message.text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set(unescaped) & set("<>&")
    json.dumps(message.arguments(), allow_nan=False).encode()
    ids = [block["block_id"] for block in every if "block_id" in block]
    assert len(set(ids)) == len(ids)
    for node in nodes([every, message.attachments]):
        _check_node(node, mentions)
    for block in every:
        if block["type"] == "actions":
            actions = [element["action_id"] for element in block["elements"]]
            assert len(set(actions)) == len(actions)


def _check_node(node: dict[str, Any], mentions: tuple[str, ...]) -> None:
    kind = node.get("type")
    for path, most in LIMITS.get(str(kind), {}).items():
        value = _at(node, path)
        assert value is None or 0 < len(value) <= most, (kind, path)
    assert len(str(node.get("block_id", ""))) <= 255
    if {"title", "confirm", "deny"} <= node.keys():
        assert all(0 < len(node[name]["text"]) <= most for name, most in CONFIRM.items())
    for option in node.get("options", ()):
        assert 0 < len(option["text"]["text"]) <= OPTION["text"]
        assert 0 < len(option["value"]) <= OPTION["value"]
    match kind:
        case "plain_text":
            assert "<!" not in node["text"]
            assert "<@" not in node["text"]
            assert node["text"].strip()
        case "mrkdwn":
            assert PARSED.fullmatch(node["text"]), "nothing that agents write goes where Slack parses"
            for who in re.findall(r"<@(\w+)>|<!subteam\^(\w+)>", node["text"]):
                assert (who[0] or who[1]) in mentions
        case "rich_text" | "rich_text_section" | "rich_text_preformatted" | "rich_text_quote":
            assert node["elements"], "Slack refuses empty rich text"
        case "text" | "link":
            assert node["text"], "Slack refuses an empty text element"
            assert node.get("url", "https://").startswith(("http://", "https://"))
        case "date":
            assert 0 <= node["timestamp"] < 2**40
        case "plan":
            assert len({c["task_id"] for c in node["tasks"]}) == len(node["tasks"])
        case "task_card":
            assert "<!" not in node["title"]
        case "user" | "usergroup":
            assert node.get("user_id", node.get("usergroup_id")) in mentions, "an agent's text became a mention"
        case "broadcast" | "channel" | "color" | "emoji" | "team":
            raise AssertionError(f"an agent's text became a {kind}")
