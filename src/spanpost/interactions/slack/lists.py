"""Pages of the tasks and questions that a user may see; others are left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from spanpost.interactions.acts import Interactions
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack.payloads import PREFIX
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.interactions.subjects import places
from spanpost.model.interventions import InterventionState
from spanpost.model.queries import ApprovalFilter, ApprovalKey, Page, TaskFilter, TaskKey, TaskQuestion
from spanpost.model.tasks import Task

T = TypeVar("T")
#: Rows that are read for one page.
LOOKED: Final = 100
#: Tasks that are judged at once.
_AT_ONCE: Final = 10
_OLDEST: Final = datetime(1, 1, 1, tzinfo=UTC)
#: Action id of the button for the next page.
MORE: Final = f"{PREFIX}more"


class ListPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The position in a list: its kind, its search words, the last entry.

    From a button's value: untrusted.
    """

    #: tasks, questions or found
    what: str
    q: str = ""
    at: datetime | None
    key: UUID
    #: How the reader begins a command.
    by: str = ""

    def button(self, label: str) -> dict[str, Any]:
        """Return the button for the next page."""
        value = {"w": self.what, "q": self.q, "k": self.key.hex, "b": self.by}
        value |= {"a": self.at.isoformat()} if self.at is not None else {}
        text = {"type": "plain_text", "text": label}
        return {"type": "button", "action_id": f"{MORE}:{self.what}", "text": text, "value": json.dumps(value)}


def position_of(value: str) -> ListPosition | None:
    """Read a button's value; None if it is not ours."""
    try:
        data = json.loads(value)
        at = datetime.fromisoformat(data["a"]) if "a" in data else None
        found = ListPosition(
            what=str(data["w"]), q=str(data["q"]), at=at, key=UUID(str(data["k"])), by=str(data["b"])[:41]
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if found.what in ("tasks", "questions", "found") and (at is None or at.tzinfo is not None) else None


class ListPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page as a user may see it."""

    #: The entries, and how many more were seen beyond them.
    tasks: list[Task] = []
    questions: list[TaskQuestion] = []
    beyond: int = 0
    #: There may be more rows than were read.
    is_open: bool = False
    #: Entries that the user may not see.
    hidden: int = 0
    #: The last entry, after which the next page begins; None at the end.
    after: tuple[datetime | None, UUID] | None = None


class TaskLists:
    """Lists for one user in a workspace."""

    def __init__(self, interactions: Interactions, web: Web, user: str, team: str) -> None:
        self._interactions = interactions
        self._web = web
        self._user = user
        self._team = team

    async def tasks(self, asked: TaskFilter, after: tuple[datetime | None, UUID] | None, most: int) -> ListPage:
        """Return a page of tasks, newest first, of all visible tenants."""
        start = TaskKey(*after) if after is not None else None

        async def of(tenant: str) -> Page[Task]:
            return await self._interactions.reader.tasks(msgspec.structs.replace(asked, tenant=tenant), start, LOOKED)

        pages = await asyncio.gather(*map(of, self._interactions.tenants))
        items, is_open = _merged(pages, lambda task: (task.started_at, task.uid))
        seen, hidden = await self.visible(task for task in items if not task.is_alert)
        last = seen[most - 1] if len(seen) > most else items[-1] if is_open and items else None
        return ListPage(
            tasks=seen[:most],
            beyond=max(len(seen) - most, 0),
            is_open=is_open,
            hidden=hidden,
            after=(last.started_at, last.uid) if last is not None else None,
        )

    async def questions(self, after: tuple[datetime | None, UUID] | None, most: int) -> ListPage:
        """Return a page of open questions, newest first."""
        start = ApprovalKey(after[0], after[1]) if after is not None and after[0] is not None else None

        async def of(tenant: str) -> Page[TaskQuestion]:
            return await self._interactions.reader.approvals(
                ApprovalFilter(tenant=tenant, state=InterventionState.OPEN), start, LOOKED
            )

        pages = await asyncio.gather(*map(of, self._interactions.tenants))
        items, is_open = _merged(pages, lambda one: (one.row.requested_at, one.row.key))
        seen, hidden = await self.visible({one.task.uid: one.task for one in items if one.task is not None}.values())
        asking = {task.uid for task in seen}
        found = [one for one in items if one.task is not None and one.task.uid in asking]
        last = found[most - 1] if len(found) > most else items[-1] if is_open and items else None
        return ListPage(
            questions=found[:most],
            beyond=max(len(found) - most, 0),
            is_open=is_open,
            hidden=hidden,
            after=(last.row.requested_at, last.row.key) if last is not None else None,
        )

    async def exact(self, ref: str) -> Task | None:
        """Return the task with an id: of the workspace's tenant, else of a visible one."""
        for tenant in self._interactions.tenants:
            found = await self._interactions.reader.task(tenant, ref)
            if found is not None and (tenant == self._interactions.tenant or (await self.visible([found]))[0]):
                return found
        return None

    async def visible(self, tasks: Iterable[Task]) -> tuple[list[Task], int]:
        """Return the tasks that the user may see, and the number of the others."""
        given = list(tasks)
        places = await self.places(given)
        few = asyncio.Semaphore(_AT_ONCE)

        async def may(task: Task) -> bool:
            async with few:
                place = places[task.uid]
                return (await self._interactions.may_list(await self.asked(task, place), self._user, place)).is_granted

        granted = await asyncio.gather(*map(may, given))
        seen = [task for task, is_granted in zip(given, granted, strict=True) if is_granted]
        return seen, len(given) - len(seen)

    async def asked(self, task: Task, place: PersonMessage) -> Asked:
        """Return a task as rules see it, with the tasks above it."""
        asked = await self._interactions.find(task.uid, place) if task.parent_uid is not None else None
        return asked or Asked(key=task.uid, task=task, is_shown_there=True)

    async def places(self, tasks: Iterable[Task]) -> dict[UUID, PersonMessage]:
        """Return the root message of each task; one without a channel where it is unknown."""
        roots = {task.uid: task.root_uid or task.uid for task in tasks}
        found = await places(self._interactions.reader, set(roots.values()))
        unknown = PersonMessage(channel="", ts="", is_ours=True)
        return {uid: msgspec.structs.replace(found.get(root, unknown), team=self._team) for uid, root in roots.items()}

    async def links(self, tasks: Iterable[Task]) -> dict[UUID, str]:
        """Return the permalinks of the tasks' messages, where Slack gives one."""
        places = {uid: place for uid, place in (await self.places(tasks)).items() if place.ts}

        async def link(place: PersonMessage) -> str:
            try:
                data = await self._web.call("chat.getPermalink", channel=place.channel, message_ts=place.ts)
            except Trouble:
                return ""  # shown without a link
            found = data.get("permalink")
            return found if isinstance(found, str) and found.startswith(("https://", "http://")) else ""

        return dict(zip(places, await asyncio.gather(*map(link, places.values())), strict=True))


def _merged(pages: Sequence[Page[T]], key: Callable[[T], tuple[datetime | None, UUID]]) -> tuple[list[T], bool]:
    """Merge the pages of several tenants, newest first, as far as all of them were read."""

    def order(one: T) -> tuple[datetime, UUID]:
        at, uid = key(one)
        return at or _OLDEST, uid

    if len(pages) == 1:
        return list(pages[0].items), pages[0].next is not None
    ends = [order(page.items[-1]) for page in pages if page.next is not None and page.items]
    items = sorted((one for page in pages for one in page.items), key=order, reverse=True)
    kept = [one for one in items if not ends or order(one) >= max(ends)]
    return kept[:LOOKED], bool(ends) or len(kept) > LOOKED
