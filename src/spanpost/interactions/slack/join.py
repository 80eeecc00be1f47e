"""Join the public channels of the routes, if configured, so that no one has to invite the app."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Final

from spanpost.interactions.slack.web import Trouble, Web
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.interactions")
_ID: Final = re.compile(r"^[CG][A-Z0-9]{2,30}$")
#: Pages of 1,000 channels that are searched for a name.
_PAGES: Final = 20


async def join(web: Web, channels: Sequence[str]) -> None:
    """Join each channel, by id or name. A failure is logged with Slack's reason."""
    names = dict.fromkeys(channels)
    ids = {name: name for name in names if _ID.match(name)}
    try:
        if wanted := [name for name in names if name not in ids]:
            ids |= await _find(web, wanted)
    except Trouble as trouble:
        log.warning("channels could not be looked up by name, and are not joined: %s", trouble)
    for name in names:
        if name not in ids:
            log.warning("there is no public channel %s to join; a private one must invite the app", line(name, 80))
            continue
        try:
            await web.call("conversations.join", channel=ids[name])
        except Trouble as trouble:
            log.warning("channel %s could not be joined: %s", line(name, 80), trouble)


async def _find(web: Web, names: Sequence[str]) -> dict[str, str]:
    bare = {name.removeprefix("#"): name for name in names}
    found: dict[str, str] = {}
    cursor = ""
    for _ in range(_PAGES):
        response = await web.call(
            "conversations.list", types="public_channel", exclude_archived="true", limit=1000, cursor=cursor
        )
        for channel in response.get("channels") or ():
            if isinstance(channel, dict) and channel.get("name") in bare:
                found[bare[str(channel["name"])]] = str(channel.get("id"))
        cursor = str((response.get("response_metadata") or {}).get("next_cursor") or "")
        if not cursor or len(found) == len(bare):
            break
    return found
