"""The tab *Home* of the app: what needs the person who opens it.

Authorization
- A question is listed if its task is visible to the person, as in `/agents`, and the rules would grant them an answer
  now: they are judged as for a press of the button in the task's own message, and so is a press in the Home.
- Tasks are listed if they run for the person (`agent.requested_by`) and are visible to them.
- A question has the words that the strictest of its task's routes shows, a task what all its routes show.
- Guests, bots and people of other workspaces get the refusal and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from spanpost.interactions import texts
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import Person, foreign, runs_for
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.requested_acts import RequestedAct
from spanpost.interactions.slack import lines
from spanpost.interactions.slack.installations import Installation
from spanpost.interactions.slack.lines import Line
from spanpost.interactions.slack.lists import LOOKED, TaskLists
from spanpost.interactions.slack.payloads import Click, OpenedHome, Submission
from spanpost.interactions.slack.web import Trouble
from spanpost.model.acts import SLACK, ContentKind
from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Actor, Verb
from spanpost.model.queries import TaskFilter, TaskKey, TaskQuestion
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES, STATUSES
from spanpost.sinks.slack import buttons, questions
from spanpost.sinks.slack.blocks import Block, Element, context, rich, rows, section, text
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.questions import OpenQuestion
from spanpost.sinks.slack.style import SlackStyle
from spanpost.tasks.titles import title
from spanpost.text.locales import Locale
from spanpost.text.sanitise import line

#: Entries of each list.
MOST: Final = 10
#: Questions that are judged at once, and options of a question of which one must be granted.
_AT_ONCE, _OPTIONS = 5, 5
#: Pages of tasks that are searched for those of the person.
_PAGES: Final = 3
_DAY: Final = timedelta(days=1)
_RUNNING: Final = TaskFilter(statuses=tuple(one for one in STATUSES if one not in FINAL_STATUSES), is_root=True)
_FAILED: Final = TaskFilter(statuses=(ERROR,), is_root=True)
#: Who opened it, pressed a button in it, or submitted a dialogue that was opened there.
Whose: TypeAlias = OpenedHome | Click | Submission
log = logging.getLogger("spanpost.interactions")


class _Home(msgspec.Struct, frozen=True, kw_only=True):
    """What a person's Home shows, and whether there may be more of each."""

    asked: Sequence[Asked] = ()
    running: Sequence[Task] = ()
    failed: Sequence[Task] = ()
    is_open: tuple[bool, bool, bool] = (False, False, False)
    links: dict[UUID, str] = {}


class Homes:
    """Draws the Homes. `conceal` removes from a task what Slack must not show."""

    def __init__(self, public_url: str, conceal: Callable[[Task], Task]) -> None:
        self._public_url = public_url.rstrip("/")
        self._conceal = conceal
        #: The newest drawing of each Home; an older one is not published any more.
        self._newest: dict[tuple[str, str], object] = {}

    async def placed(self, installation: Installation, click: Click) -> Click:
        """Return a press in a Home as one in the message of its question's task. Raises `StoreUnavailable`."""
        interactions, nowhere = installation.interactions, msgspec.structs.replace(click.message, is_ours=False)
        asked = await interactions.find(click.key, click.message) if click.message.is_ours else None
        if asked is None or asked.approval is None or asked.task.tenant not in interactions.tenants:
            return msgspec.structs.replace(click, message=nowhere)
        lists = TaskLists(interactions, installation.web, click.user, click.message.team)
        return msgspec.structs.replace(click, message=(await lists.places([asked.task]))[asked.task.uid])

    async def publish(self, installation: Installation, whose: Whose, team: str, *, said: str = "") -> None:
        """Show a person's Home as it is now, with an answer (mrkdwn, ours) above it. A failure is logged."""
        home, mine = (team, whose.user), object()
        if isinstance(whose, OpenedHome) and home in self._newest:
            return
        self._newest[home] = mine
        try:
            try:
                blocks = await self._blocks(installation, whose, team)
            except StoreUnavailable:
                blocks = [_notice(_locale(installation).say("interactions.away"))]
            if self._newest[home] is mine:
                view = {"type": "home", "blocks": [*([_notice(said)] if said else []), *blocks]}
                await installation.web.call("views.publish", user_id=whose.user, view=view)
        except Trouble as trouble:
            log.warning("a person's Home could not be shown: %s", trouble)
        finally:
            if self._newest.get(home) is mine:
                del self._newest[home]

    async def _blocks(self, installation: Installation, whose: Whose, team: str) -> list[Block]:
        interactions, locale = installation.interactions, _locale(installation)
        nowhere = PersonMessage(team=team, channel="", ts="")
        ruling = foreign() if whose.is_foreign else await interactions.may_list(None, whose.user, nowhere)
        if not ruling.is_granted or ruling.person is None:
            return [_notice(texts.refused(ruling, locale))]
        lists = TaskLists(interactions, installation.web, whose.user, team)
        asked, more_asked = await _answerable(interactions, lists, whose.user)
        running, more_running = await _own(interactions, lists, ruling.person, _RUNNING, None)
        failed, more_failed = await _own(interactions, lists, ruling.person, _FAILED, datetime.now(UTC) - _DAY)
        if interactions.read_log is not None and asked:
            by = Actor(provider=SLACK, team=team, id=whose.user, credential=SLACK)
            for tenant in {one.task.tenant for one in asked}:
                uids = [one.task.uid for one in asked if one.task.tenant == tenant]
                await interactions.read_log.note(by, ContentKind.QUESTION, tenant, uids)
        shown = [*(one.task for one in asked), *running, *failed]
        links = {task.uid: f"{self._public_url}/board/tasks/{task.uid}" for task in shown}
        return self._drawn(
            interactions,
            _Home(
                asked=asked,
                running=running,
                failed=failed,
                is_open=(more_asked, more_running, more_failed),
                links=links if self._public_url else await lists.links(shown),
            ),
            locale,
        )

    def _drawn(self, interactions: Interactions, home: _Home, locale: Locale) -> list[Block]:
        blocks: list[Block] = [_header(locale.say("home.questions"))]
        for one in home.asked:
            blocks += self._question(interactions, one, home.links.get(one.task.uid, ""), locale)
        blocks += _end(locale, "home.no_questions", has_any=bool(home.asked), is_open=home.is_open[0])
        running: list[Line] = [
            lines.task(self._conceal(one), home.links.get(one.uid, ""), locale) for one in home.running
        ]
        failed = [self._failure(one, home.links.get(one.uid, ""), locale) for one in home.failed]
        for name, empty, listed, is_open in (
            ("home.running", "home.no_running", running, home.is_open[1]),
            ("home.failed", "home.no_failed", failed, home.is_open[2]),
        ):
            blocks += [_header(locale.say(name))]
            blocks += [rich(*(section(*one) for one in listed))] if listed else []
            blocks += _end(locale, empty, has_any=bool(listed), is_open=is_open)
        return [*blocks, context(locale.say("home.what"))]

    def _question(self, interactions: Interactions, asked: Asked, link: str, locale: Locale) -> list[Block]:
        assert asked.approval is not None
        drawn = SlackStyle(is_interactive=True, locale=locale)
        one = OpenQuestion(asked.approval, interactions.reads((asked.above or (asked.task,))[-1], asked.approval, ""))
        name = text(disarmed(title(self._conceal(asked.task), 100)), link=link)
        elements: list[Element] = [*questions.elements_of(one, drawn, sign="✋ "), section(name)]
        facts = questions.facts_of(one, drawn)
        small = [context(" · ".join(facts))] if facts else []
        row = buttons.of_question(asked.approval, one.shown, locale)
        return [rich(*elements), *small, *rows((asked.key.hex, row), below=(elements, facts))]

    def _failure(self, task: Task, link: str, locale: Locale) -> Line:
        shown = self._conceal(task)
        said = [text("• "), text(disarmed(title(shown, 100)), "bold", link=link)]
        if shown.error is not None:
            why = locale.translate(shown.messages.get("error"), shown.error.message)
            said.append(text(f" · {disarmed(line(f'{shown.error.type}: {why}', 200))}"))
        return [*said, text(" · "), lines.since(task.ended_at)] if task.ended_at is not None else said


async def _answerable(interactions: Interactions, lists: TaskLists, user: str) -> tuple[list[Asked], bool]:
    """Return the newest open questions that a person may answer, and whether there may be more."""
    page = await lists.questions(None, LOOKED)
    found: list[Asked] = []
    for start in range(0, len(page.questions), _AT_ONCE):
        some = page.questions[start : start + _AT_ONCE]
        judged = await asyncio.gather(*(_asked(interactions, lists, one, user) for one in some))
        found += [one for one in judged if one is not None]
        if len(found) > MOST:
            return found[:MOST], True
    return found, page.is_open


async def _asked(interactions: Interactions, lists: TaskLists, question: TaskQuestion, user: str) -> Asked | None:
    """Return a question that a person may answer in one way at least; None for any other."""
    task, row = question.task, question.row
    if task is None or task.status in FINAL_STATUSES:
        return None
    place = (await lists.places([task]))[task.uid]
    ways: list[tuple[Verb, int | None]] = [(Verb.APPROVE, None), (Verb.DENY, None)]
    if row.options:
        ways = [(Verb.CHOOSE, option) for option in range(min(len(row.options), _OPTIONS))]
    for verb, option in ways:
        act = RequestedAct(
            verb=verb, key=row.key, user=user, message=place, option=option, idempotency_key="", at=datetime.now(UTC)
        )
        asked = await interactions.could(act)
        if asked is not None and asked.approval is not None and asked.approval.is_open:
            return asked
    return None


async def _own(
    interactions: Interactions, lists: TaskLists, person: Person, wanted: TaskFilter, ended: datetime | None
) -> tuple[list[Task], bool]:
    """Return the newest tasks that run for a person, or that ended since a time, and whether there may be more."""
    found: list[Task] = []
    is_open = False
    for tenant in interactions.tenants:
        after: TaskKey | None = None
        for _ in range(_PAGES):
            page = await interactions.reader.tasks(msgspec.structs.replace(wanted, tenant=tenant), after, LOOKED)
            found += [
                task
                for task in page.items
                if not task.is_alert
                and runs_for(interactions.rules, task.requested_by or "", person)
                and (ended is None or (task.ended_at is not None and task.ended_at >= ended))
            ]
            if page.next is None or not page.items:
                break
            after = TaskKey(page.items[-1].started_at, page.items[-1].uid)
        else:
            # What began before the day is rarely of the day.
            last = after.started_at if after is not None else None
            is_open = is_open or ended is None or (last is not None and last >= ended)
    oldest = datetime(1, 1, 1, tzinfo=UTC)
    found.sort(key=lambda task: (task.ended_at or task.started_at or oldest, task.uid), reverse=True)
    seen, _ = await lists.visible(found[:LOOKED])
    return seen[:MOST], is_open or len(seen) > MOST


def _locale(installation: Installation) -> Locale:
    return installation.interactions.speaks(None, ())


def _header(said: str) -> Block:
    return {"type": "header", "text": {"type": "plain_text", "text": said, "emoji": False}}


def _notice(said: str) -> Block:
    """Return an answer of ours, in mrkdwn."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": said[:3000], "verbatim": True}}


def _end(locale: Locale, empty: str, *, has_any: bool, is_open: bool) -> list[Block]:
    if is_open:
        return [context(locale.say("home.more"))]
    return [] if has_any else [context(locale.say(empty))]
