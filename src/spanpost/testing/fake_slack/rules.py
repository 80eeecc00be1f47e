"""The arguments that Slack accepts, by its documents and by others' measurements.

Limits: docs.slack.dev/reference/block-kit (2026-08); arguments: docs.slack.dev/reference/methods, strictly
(the real one passes over some unknown ones).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

_CONTENT = (
    "text",
    "blocks",
    "attachments",
    "metadata",
    "link_names",
    "parse",
    "reply_broadcast",
    "as_user",
    "markdown_text",
)
_POST = ("mrkdwn", "thread_ts", "unfurl_links", "unfurl_media", "username", "icon_emoji", "icon_url", "client_msg_id")
_PAGED = ("cursor", "limit", "oldest", "latest", "inclusive", "include_all_metadata")
#: Arguments of each method; ``*`` marks what is required.
ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "auth.test": (),
    "oauth.v2.access": ("client_id", "client_secret", "code", "redirect_uri", "grant_type", "refresh_token"),
    "agents.sessions.setStatus": ("channel_id", "*status", "thread_ts", "title", "initiator_user_id"),
    "chat.postMessage": ("*channel", *_CONTENT, *_POST),
    "chat.update": ("*channel", "*ts", *_CONTENT, "file_ids"),
    "chat.delete": ("*channel", "*ts", "as_user"),
    "chat.postEphemeral": ("*channel", "*user", *_CONTENT, "thread_ts"),
    "chat.getPermalink": ("*channel", "*message_ts"),
    "users.info": ("*user", "include_locale"),
    "users.lookupByEmail": ("*email",),
    "views.open": ("trigger_id", "*view"),
    "conversations.history": ("*channel", *_PAGED),
    "conversations.replies": ("*channel", "*ts", *_PAGED),
    "conversations.list": ("cursor", "limit", "types", "exclude_archived", "team_id"),
    "conversations.info": ("*channel", "include_locale", "include_num_members"),
    "conversations.join": ("*channel",),
    "files.getUploadURLExternal": ("*filename", "*length", "alt_txt", "snippet_type"),
    "files.delete": ("*file",),
    "files.completeUploadExternal": ("*files", "channel_id", "thread_ts", "initial_comment", "channels", "blocks"),
}

MAX_BLOCKS, MAX_ATTACHMENTS, MAX_TEXT_OF_UPDATE = 50, 100, 4_000
#: Characters of all blocks together (slackapi/bolt-js #2509, measured), and of a message's metadata (a
#: guess, generous).
MAX_ALL_BLOCKS, MAX_METADATA = 13_200, 8_000


class SlackError(Exception):
    """An answer with ``ok: false``."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


def arguments(method: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the method does not know or lacks."""
    known = ARGUMENTS[method]
    required = [name[1:] for name in known if name.startswith("*")]
    unknown = sorted(set(given) - {name.lstrip("*") for name in known} - {"token"})
    if unknown:
        raise SlackError("invalid_arguments", response_metadata={"messages": [f"[ERROR] unknown field: {unknown[0]}"]})
    if not given.get("channel") and "channel" in required:
        raise SlackError("channel_not_found")
    missing = [name for name in required if not given.get(name)]
    if missing:
        raise SlackError("invalid_arguments", response_metadata={"messages": [f"[ERROR] missing field: {missing[0]}"]})


def content(method: str, given: Mapping[str, Any], refused_blocks: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the parts of a message, read and judged."""
    text = given.get("text") or ""
    if not isinstance(text, str):
        raise SlackError("invalid_arguments")
    blocks = _list(given.get("blocks"), "invalid_blocks_format")
    attachments = _list(given.get("attachments"), "invalid_attachments")
    if not (text or blocks or attachments):
        raise SlackError("no_text")
    if method == "chat.update" and len(text) > MAX_TEXT_OF_UPDATE:
        raise SlackError("msg_too_long")
    if len(attachments) > MAX_ATTACHMENTS:
        raise SlackError("too_many_attachments")
    everything = [*blocks]
    for attachment in attachments:
        everything += _list(attachment.get("blocks"), "invalid_attachments")
    for some in (blocks, *(_list(a.get("blocks"), "invalid_attachments") for a in attachments)):
        if len(some) > MAX_BLOCKS:
            raise SlackError("invalid_blocks")
    if len(json.dumps(everything, ensure_ascii=False, separators=(",", ":"))) > MAX_ALL_BLOCKS:
        raise SlackError("msg_blocks_too_long")
    for block in everything:
        if not _is_good(block) or block["type"] in refused_blocks:
            raise SlackError("invalid_blocks")
    shown: dict[str, Any] = {"text": text[:40_000], "blocks": blocks, "attachments": attachments}
    if "metadata" in given:
        shown["metadata"] = _metadata(given["metadata"])
    return shown


def listed(value: Any) -> list[dict[str, Any]]:
    """Return a list of objects, given as JSON or as text of it."""
    return _list(value, "invalid_arguments")


def _list(value: Any, error: str) -> list[dict[str, Any]]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise SlackError(error) from None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise SlackError(error)
    return value


def _metadata(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise SlackError("invalid_metadata_format") from None
    if not isinstance(value, dict):
        raise SlackError("invalid_metadata_format")
    if value and not (
        isinstance(value.get("event_type"), str)
        and value["event_type"]
        and isinstance(value.get("event_payload"), dict)
    ):
        raise SlackError("invalid_metadata_format")
    if len(json.dumps(value)) > MAX_METADATA:
        raise SlackError("metadata_too_large")
    return value


def _is_good(block: dict[str, Any]) -> bool:
    judge = _BLOCKS.get(str(block.get("type")))
    return judge is not None and len(str(block.get("block_id", ""))) <= 255 and judge(block)


def _is_text(value: Any, most: int, *kinds: str) -> bool:
    return (
        isinstance(value, dict)
        and value.get("type") in (kinds or ("plain_text", "mrkdwn"))
        and isinstance(value.get("text"), str)
        and 0 < len(value["text"]) <= most
    )


def _section(block: dict[str, Any]) -> bool:
    fields = block.get("fields", [])
    has_text = _is_text(block.get("text"), 3_000)
    good_fields = isinstance(fields, list) and len(fields) <= 10 and all(_is_text(f, 2_000) for f in fields)
    return good_fields and (has_text or (bool(fields) and "text" not in block))


def _context(block: dict[str, Any]) -> bool:
    elements = block.get("elements")
    return (
        isinstance(elements, list)
        and 0 < len(elements) <= 10
        and all(e.get("type") == "image" or _is_text(e, 3_000) for e in elements)
    )


_RICH: Final = {"rich_text_section", "rich_text_list", "rich_text_quote", "rich_text_preformatted"}


def _rich_text(block: dict[str, Any]) -> bool:
    elements = block.get("elements")
    return isinstance(elements, list) and bool(elements) and all(_is_rich(e) for e in elements)


def _is_rich(element: Any) -> bool:
    if not isinstance(element, dict) or element.get("type") not in _RICH:
        return False
    parts = element.get("elements")
    if not isinstance(parts, list) or not parts:
        return False
    if element["type"] == "rich_text_list":
        return all(_is_rich(part) for part in parts)
    return all(_is_part(part) for part in parts)


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    if part.get("type") == "text":
        return isinstance(part.get("text"), str) and bool(part["text"])
    if part.get("type") == "link":
        return isinstance(part.get("url"), str) and part["url"].startswith(("http://", "https://", "mailto:"))
    return part.get("type") in {"user", "usergroup", "channel", "broadcast", "date", "emoji", "color", "team"}


def _card(card: Any) -> bool:
    return (
        isinstance(card, dict)
        and card.get("type") == "task_card"
        and isinstance(card.get("task_id"), str)
        and bool(card["task_id"])
        and isinstance(card.get("title"), str)
        and bool(card["title"])
        and card.get("status") in ("pending", "in_progress", "complete", "error")
        and all(
            name not in card or (isinstance(card[name], dict) and _rich_text(card[name]))
            for name in ("details", "output")
        )
    )


def _plan(block: dict[str, Any]) -> bool:
    tasks = block.get("tasks")
    good = isinstance(tasks, list) and 0 < len(tasks) <= 50 and all(_card(task) for task in tasks)
    return good and isinstance(block.get("title"), str) and bool(block["title"])


def _actions(block: dict[str, Any]) -> bool:
    elements = block.get("elements")
    judges = {"button": _button, "overflow": _menu, "static_select": _select}
    good = isinstance(elements, list) and 0 < len(elements) <= 25
    return good and all(judges[e["type"]](e) for e in elements or () if isinstance(e, dict) and e.get("type") in judges)


def _container(block: dict[str, Any]) -> bool:
    children = block.get("child_blocks")
    named = _is_text(block.get("title"), 150, "plain_text") or _rich_text(block.get("rich_text_title") or {})
    # Neither plans nor other containers (the types of @slack/types).
    within = {
        "actions",
        "context",
        "divider",
        "file",
        "header",
        "image",
        "input",
        "rich_text",
        "section",
        "table",
        "video",
    }
    good = isinstance(children, list) and 0 < len(children) <= 10
    return (
        named and good and all(isinstance(c, dict) and c.get("type") in within and _is_good(c) for c in children or ())
    )


def _menu(menu: dict[str, Any]) -> bool:
    options = menu.get("options")
    return isinstance(options, list) and 0 < len(options) <= 5 and all(map(_option, options))


def _select(choice: dict[str, Any]) -> bool:
    options = choice.get("options")
    good = isinstance(options, list) and 0 < len(options) <= 100 and all(map(_option, options))
    return good and ("placeholder" not in choice or _is_text(choice["placeholder"], 150, "plain_text"))


def _option(option: Any) -> bool:
    return (
        isinstance(option, dict)
        and _is_text(option.get("text"), 75, "plain_text")
        and 0 < len(str(option.get("value", ""))) <= 150
    )


def _button(button: dict[str, Any]) -> bool:
    return (
        _is_text(button.get("text"), 75, "plain_text")
        and len(str(button.get("value", ""))) <= 2_000
        and len(str(button.get("action_id", ""))) <= 255
        and button.get("style") in (None, "primary", "danger")
    )


_BLOCKS: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    "section": _section,
    "context": _context,
    "rich_text": _rich_text,
    "plan": _plan,
    "container": _container,
    # A card by itself may not be pending (slackblocks, its table of surfaces).
    "task_card": lambda block: _card(block) and block["status"] != "pending",
    "actions": _actions,
    "header": lambda block: _is_text(block.get("text"), 150, "plain_text"),
    "divider": lambda block: True,
    "markdown": lambda block: isinstance(block.get("text"), str) and 0 < len(block["text"]) <= 12_000,
    "image": lambda block: isinstance(block.get("image_url"), str) and isinstance(block.get("alt_text"), str),
}
