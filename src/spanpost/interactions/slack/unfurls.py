"""Cards of tasks in place of links to the board that people post.

Authorization
- The link lies below `api.public_url` and names a task of the workspace; any other is left as it is, without a word.
- The person who posts it may see the task. All members of the channel see the card: where a rule about `view` decides
  who sees the task, it is shown in the channel of its own message alone. A channel that other organisations share shows
  no card, and neither does a draft, whose channel is not known.
- The card has no content, no buttons, and hides what each route of the task hides.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.interactions.authorization import VIEW
from spanpost.interactions.slack.installations import Installation
from spanpost.interactions.slack.lists import TaskLists
from spanpost.interactions.slack.payloads import ID, TS, fingerprint, is_foreign, text_of
from spanpost.interactions.slack.web import Trouble
from spanpost.model.errors import StoreUnavailable
from spanpost.model.tasks import Task
from spanpost.sinks.labels import without_content
from spanpost.sinks.slack import render
from spanpost.sinks.slack.errors import BLOCKS
from spanpost.sinks.slack.render import Style
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale

#: Cards of a message; more links stay links.
MOST: Final = 5
_PAGE: Final = "/board/tasks/"
_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Links of a message that are read, and characters of one.
_LINKS, _LINK = 50, 2_000
log = logging.getLogger("spanpost.interactions")


class SharedLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Links that a person posted, of the domains that the app unfurls."""

    user: str
    team: str
    channel: str
    ts: str
    links: tuple[str, ...]
    #: The person or the channel belongs to other organisations, too.
    is_foreign: bool


def shared_links(body: dict[str, Any], team: str) -> SharedLinks | None:
    """Read a `link_shared` event of a posted message; None for anything else, and for a draft.

    See docs.slack.dev/reference/events/link_shared.
    """
    said = body.get("event")
    event: dict[str, Any] = said if isinstance(said, dict) else {}
    user, channel, ts = (text_of(event.get(name)) for name in ("user", "channel", "message_ts"))
    links = event.get("links")
    if event.get("type") != "link_shared" or not (ID.match(user) and ID.match(channel) and TS.match(ts)):
        return None
    if channel == "COMPOSER" or event.get("source") == "composer" or not isinstance(links, list):
        return None
    urls = dict.fromkeys(text_of(one.get("url")) for one in links[:_LINKS] if isinstance(one, dict))
    return SharedLinks(
        user=user,
        team=team,
        channel=channel,
        ts=ts,
        links=tuple(url for url in urls if url and len(url) <= _LINK),
        is_foreign=is_foreign(body, event.get("user_team"), team) or body.get("is_ext_shared_channel") is True,
    )


class Unfurls:
    """Draws the cards. `conceal` removes from a task what Slack must not show."""

    def __init__(self, public_url: str, conceal: Callable[[Task], Task]) -> None:
        self._public_url = public_url.rstrip("/")
        self._conceal = conceal

    def task_of(self, url: str) -> UUID | None:
        """Return the task to which a link leads; None for any other link."""
        page = f"{self._public_url}{_PAGE}"
        if not self._public_url or not url.startswith(page):
            return None
        rest, _, _ = url.removeprefix(page).partition("#")[0].partition("?")
        return UUID(rest) if _UID.fullmatch(rest) else None

    async def hear(self, installation: Installation, body: dict[str, Any], team: str) -> None:
        """Show the cards of an event's links. What fails stays a link, and is logged."""
        if (shared := shared_links(body, team)) is None:
            return
        try:
            key = fingerprint("links", team, shared.channel, shared.ts)
            if await installation.interactions.interventions.is_first(key):
                await self.show(installation, shared)
        except StoreUnavailable:
            log.warning("a link to a task has no card: the store is unavailable")
        except Trouble as trouble:
            log.warning("a link to a task has no card: %s", trouble)

    async def show(self, installation: Installation, shared: SharedLinks) -> int:
        """Show the cards of a message's links; return their number. Raises `StoreUnavailable` and `Trouble`."""
        if shared.is_foreign:
            return 0
        found: dict[str, Task] = {}
        for url in shared.links:
            uid = self.task_of(url) if len(found) < MOST else None
            task = await self._visible(installation, shared, uid) if uid is not None else None
            if task is not None:
                found[url] = task
        if not found:
            return 0
        locale = installation.interactions.speaks(None, (shared.channel,))
        where = {"channel": shared.channel, "ts": shared.ts}
        try:
            await installation.web.call("chat.unfurl", **where, unfurls=self._cards(found, Style.RICH, locale))
        except Trouble as trouble:
            if trouble.error not in BLOCKS:
                raise
            await installation.web.call("chat.unfurl", **where, unfurls=self._cards(found, Style.PLAIN, locale))
        return len(found)

    async def _visible(self, installation: Installation, shared: SharedLinks, uid: UUID) -> Task | None:
        interactions = installation.interactions
        task = await interactions.reader.find(uid)
        if task is None or task.tenant not in interactions.tenants:
            return None
        lists = TaskLists(interactions, installation.web, shared.user, shared.team)
        if not (await lists.visible([task]))[0]:
            return None
        place = (await lists.places([task]))[task.uid]
        asked = await lists.asked(task, place)
        is_ruled = any(rule.takes(VIEW, asked) for rule in interactions.rules.rules)
        return None if is_ruled and place.channel != shared.channel else task

    def _cards(self, found: dict[str, Task], style: Style, locale: Locale) -> dict[str, Any]:
        drawn = SlackStyle(shows_content=False, shows_logs=False, locale=locale, public_url=self._public_url)
        return {url: _card(without_content(self._conceal(task)), style, drawn) for url, task in found.items()}


def _card(task: Task, style: Style, slack_style: SlackStyle) -> dict[str, Any]:
    """Return a task's message as an attachment."""
    message = render.root(task, key="", style=style, slack_style=slack_style)
    below = message.attachments[0]
    blocks: Sequence[dict[str, Any]] = [*message.blocks, *below["blocks"]]
    return {"color": below["color"], "fallback": message.text, "blocks": blocks}
