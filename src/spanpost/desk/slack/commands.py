"""What somebody asks of the app in words, answered to them alone: what runs and what waits, one task, a cancel, a start.

Who may. Told of tasks is whoever is a member of the workspace, of those of its tenant, and where a rule is about seeing one
(`view`), whom that rule lets. A cancel is weighed as if *Cancel* had been pressed in the task's own message, wherever it is said: the
channel in which somebody writes a command is of their own choosing, and gives them nothing. So a start is said nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from uuid import UUID

import msgspec

from spanpost.conventions import FINAL_STATUSES, STATUSES
from spanpost.desk import words
from spanpost.desk.acts import Act, Desk, Start
from spanpost.desk.base import Asked, Message
from spanpost.desk.slack import lines, modals
from spanpost.desk.slack.lines import Line, Told, text
from spanpost.desk.slack.spoken import Spoken
from spanpost.desk.slack.web import Trouble, Web
from spanpost.desk.who import VIEW, foreign
from spanpost.domain.browsing import ApprovalFilter, TaskFilter
from spanpost.domain.interventions import Result, State, Verb
from spanpost.domain.tasks import Task
from spanpost.fold.redact import line
from spanpost.tongues import ENGLISH, Tongue

#: Looked at, of what runs or is found, and listed of it.
_LOOKED: Final = 100
_LISTED: Final = 15
_CANDIDATES: Final = 8
#: Tasks about which rules are asked at once.
_AT_ONCE: Final = 10
#: The beginning of an id is taken for it, where only one begins so, from so many characters on.
_LEAST: Final = 4
#: An id is hardly longer.
_MOST_REF: Final = 500
_UNDER_WAY: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)
#: What changes something: recorded before Slack is answered.
ACTS: Final = ("cancel", "start")
#: What there is: a phrase for how it is said, and one for what it does.
_HELP: Final = {
    "": "command.help_list",
    "command.form_show": "command.help_show",
    "command.form_cancel": "command.help_cancel",
    "command.form_start": "command.help_start",
    "command.form_help": "command.help_help",
}


class Commands:
    """Answers, in one workspace. `conceal` hides of a task what is not to be seen in Slack."""

    def __init__(self, desk: Desk, web: Web, conceal: Callable[[Task], Task], tongue: Tongue = ENGLISH) -> None:
        self._desk = desk
        self._web = web
        self._conceal = conceal
        self._tongue = tongue
        self._say = tongue.say

    async def answer(self, spoken: Spoken) -> Told | None:
        """Do or look up what was said; None where a repeat was told already. Raises `LedgerUnavailable`."""
        heard: dict[str, Callable[[Spoken], Awaitable[Told | None]]] = {
            "": self._overview,
            "list": self._overview,
            "show": self._show,
            "cancel": self._cancel,
            "start": self._start,
            "help": self._help,
        }
        does = heard.get(spoken.word)
        if spoken.word in ACTS and does is not None:
            return await does(spoken)  # refused by rules of their own, which keep a row of it
        if (refusal := await self._unfit(spoken)) is not None:
            return refusal
        if not await self._desk.hall.is_first(spoken.once):
            return None
        if does is None:
            return self._told([[text(self._say("command.none", word=line(spoken.word, 40)))], *self._helping(spoken)])
        return await does(spoken)

    async def _unfit(self, spoken: Spoken) -> Told | None:
        """Return what somebody is told who may not be told of anything here."""
        ruling = foreign()
        if not spoken.is_foreign:
            ruling = await self._desk.may_look(None, spoken.user, _nowhere(spoken))
        return None if ruling.is_granted else Told(text=words.refused(ruling, self._tongue))

    async def _help(self, spoken: Spoken) -> Told:
        return self._told([[text(self._say("command.help"))], *self._helping(spoken)])

    def _told(self, said: Iterable[Line]) -> Told:
        return lines.told(said, self._tongue)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def _overview(self, spoken: Spoken) -> Told:
        hall, tenant = self._desk.hall, self._desk.tenant
        running, waiting = await asyncio.gather(
            hall.tasks(TaskFilter(tenant=tenant, statuses=_UNDER_WAY, is_root=True), None, _LOOKED),
            hall.questions(ApprovalFilter(tenant=tenant, state=State.OPEN), None, _LOOKED),
        )
        seen, hidden = await self._visible(spoken, (task for task in running.items if not task.is_alert))
        askers = {one.task.uid: one.task for one in waiting.items if one.task is not None}
        may_see, more_hidden = await self._visible(spoken, askers.values())
        asking = {task.uid for task in may_see}
        questions = [one for one in waiting.items if one.task is not None and one.task.uid in asking]
        shown = seen[:_LISTED]
        asked = questions[:_LISTED]
        links = await self._links(spoken, [*shown, *(one.task for one in asked if one.task is not None)])
        said: list[Line] = [[text(self._say("command.runs" if seen else "command.nothing_runs"), is_bold=True)]]
        said += [lines.task(self._conceal(task), links.get(task.uid, ""), self._tongue) for task in shown]
        said += lines.more(len(seen) - len(shown), "tasks", self._tongue, is_open=running.next is not None)
        if questions:
            said.append([text(self._say("command.waits"), is_bold=True)])
        for one in asked:
            assert one.task is not None
            task = self._conceal(one.task)
            # The question as the task may show it: what is concealed of it is concealed here.
            words_of_it = next((approval.question for approval in task.approvals if approval.key == one.row.key), "")
            link = links.get(task.uid, "")
            name = text(line(words_of_it, 200) or self._say("command.question"), link=link)
            said.append(
                [
                    text("• "),
                    name,
                    text(f" · {line(task.name or task.task_id, 100)} · {self._say('command.since')} "),
                    lines.since(one.row.requested_at),
                ]
            )
        said += lines.more(len(questions) - len(asked), "questions", self._tongue, is_open=waiting.next is not None)
        if hidden or more_hidden:
            said.append([text(self._say("command.hidden"))])
        return self._told(said)

    async def _show(self, spoken: Spoken) -> Told:
        if not spoken.rest:
            return self._which(spoken, "command.form_show")
        exact = await self._exact(spoken.rest)
        if exact is not None and (await self._visible(spoken, [exact]))[0]:
            return await self._one(spoken, exact)
        page = await self._desk.hall.tasks(TaskFilter(tenant=self._desk.tenant, q=spoken.rest[:_MOST_REF]), None, _LOOKED)
        seen, _ = await self._visible(spoken, page.items)
        if len(seen) == 1 and page.next is None:
            return await self._one(spoken, seen[0])
        return await self._candidates(spoken, seen, is_open=page.next is not None)

    async def _one(self, spoken: Spoken, task: Task) -> Told:
        asked = await self._asked(task, (await self._places(spoken, [task]))[task.uid])
        ruled = any(rule.takes(VIEW, asked) for rule in self._desk.rules.rules)
        links = await self._links(spoken, [task])
        shown = self._conceal(task)
        # All that the dialogue *Show more* has is for those whom a rule lets see it.
        texts = modals.texts(shown, self._tongue)[: None if ruled else 1]
        said: list[Line] = [[text(line(shown.name or shown.task_id, 200), is_bold=True, link=links.get(task.uid, ""))]]
        said += [[text(part)] for one in texts for part in one.split("\n") if part]
        return self._told(said)

    async def _candidates(self, spoken: Spoken, found: list[Task], *, is_open: bool) -> Told:
        what = line(spoken.rest, 80)
        if not found:
            return self._told([[text(self._say("command.unknown_task", what=what, way=_way(spoken, "")))]])
        shown = found[:_CANDIDATES]
        links = await self._links(spoken, shown)
        said: list[Line] = [[text(self._say("command.candidates", what=what))]]
        said += [lines.task(self._conceal(task), links.get(task.uid, ""), self._tongue) for task in shown]
        return self._told([*said, *lines.more(len(found) - len(shown), "tasks", self._tongue, is_open=is_open)])

    async def _exact(self, ref: str) -> Task | None:
        return await self._desk.hall.task(self._desk.tenant, ref) if len(ref) <= _MOST_REF else None

    async def _visible(self, spoken: Spoken, tasks: Iterable[Task]) -> tuple[list[Task], int]:
        """Return those of which somebody may be told, and how many others there are."""
        given = list(tasks)
        places = await self._places(spoken, given)
        few = asyncio.Semaphore(_AT_ONCE)

        async def may(task: Task) -> bool:
            async with few:
                place = places[task.uid]
                return (await self._desk.may_look(await self._asked(task, place), spoken.user, place)).is_granted

        granted = await asyncio.gather(*map(may, given))
        seen = [task for task, is_granted in zip(given, granted, strict=True) if is_granted]
        return seen, len(given) - len(seen)

    async def _asked(self, task: Task, place: Message) -> Asked:
        """Return a task as rules look at it: with those for which it works."""
        asked = await self._desk.find(task.uid, place) if task.parent_uid is not None else None
        return asked or Asked(key=task.uid, task=task, is_told_there=True)

    async def _places(self, spoken: Spoken, tasks: Iterable[Task]) -> dict[UUID, Message]:
        """Return the message in which each is told; one without a channel, where that is not known."""
        roots = {task.uid: task.root_uid or task.uid for task in tasks}
        found = await self._desk.hall.places(set(roots.values()))
        unknown = Message(channel="", ts="", is_ours=True)
        return {uid: msgspec.structs.replace(found.get(root, unknown), team=spoken.team) for uid, root in roots.items()}

    async def _links(self, spoken: Spoken, tasks: Iterable[Task]) -> dict[UUID, str]:
        """Return where the messages of tasks can be opened, of those of which Slack says so."""
        places = {uid: place for uid, place in (await self._places(spoken, tasks)).items() if place.ts}

        async def link(place: Message) -> str:
            try:
                told = await self._web.call("chat.getPermalink", channel=place.channel, message_ts=place.ts)
            except Trouble:
                return ""  # it is told without
            found = told.get("permalink")
            return found if isinstance(found, str) and found.startswith(("https://", "http://")) else ""

        return dict(zip(places, await asyncio.gather(*map(link, places.values())), strict=True))

    # --- acts -------------------------------------------------------------------------------------------------------

    async def _cancel(self, spoken: Spoken) -> Told | None:
        if not spoken.rest:
            return self._which(spoken, "command.form_cancel")
        task = await self._exact(spoken.rest)
        if task is None:
            if (refusal := await self._unfit(spoken)) is not None:
                return refusal
            page = await self._desk.hall.tasks(
                TaskFilter(tenant=self._desk.tenant, q=spoken.rest[:_MOST_REF], statuses=_UNDER_WAY), None, _LOOKED
            )
            seen, _ = await self._visible(spoken, page.items)
            begin = [one for one in seen if one.task_id.startswith(spoken.rest)]
            if len(begin) != 1 or page.next is not None or len(spoken.rest) < _LEAST:
                return await self._candidates(spoken, begin if len(begin) > 1 else seen, is_open=page.next is not None)
            task = begin[0]
        act = Act(
            verb=Verb.CANCEL,
            key=task.uid,
            user=spoken.user,
            message=(await self._places(spoken, [task]))[task.uid],
            is_foreign=spoken.is_foreign,
            once=spoken.once,
            at=spoken.at,
        )
        outcome = await self._desk.do(act)
        if outcome.told:
            return Told(text=outcome.told)
        if outcome.result is not Result.DONE or (outcome.verdict is not None and outcome.verdict.is_repeat):
            return None
        name = line(self._conceal(task).name or task.task_id, 200)
        return self._told([[text(self._say("command.cancelled", task=name))]])

    async def _start(self, spoken: Spoken) -> Told | None:
        launcher, rest = [*spoken.rest.split(None, 1), "", ""][:2]
        known = sorted(self._desk.launches.launchers)
        there = ", ".join(line(one, 60) for one in known) or self._say("command.no_launchers")
        if launcher not in known:
            if (refusal := await self._unfit(spoken)) is not None:
                return refusal
            if launcher:
                return self._told([[text(self._say("command.no_launcher", launcher=line(launcher, 60), known=there))]])
            way = _way(spoken, self._say("command.form_start"))
            return self._told([[text(self._say("command.which_launcher", way=way, known=there))]])
        order = Start(
            launcher=launcher,
            text=rest.strip(),
            user=spoken.user,
            message=_nowhere(spoken),
            is_foreign=spoken.is_foreign,
            once=spoken.once,
            at=spoken.at,
        )
        outcome = await self._desk.start(order, tongue=self._tongue)
        if outcome.told:
            return Told(text=outcome.told)
        if outcome.result is not Result.DONE or (outcome.verdict is not None and outcome.verdict.is_repeat):
            return None
        return self._told([[text(self._say("command.started", launcher=launcher))]])

    # --- help -------------------------------------------------------------------------------------------------------

    def _which(self, spoken: Spoken, form: str) -> Told:
        way = _way(spoken, self._say(form))
        return self._told([[text(self._say("command.which", way=way, list=_way(spoken, "")))]])

    def _helping(self, spoken: Spoken) -> list[Line]:
        ways = {_way(spoken, self._say(form) if form else ""): what for form, what in _HELP.items()}
        return [[text(way, is_bold=True), text(f" – {self._say(what)}")] for way, what in ways.items()]


def _way(spoken: Spoken, form: str) -> str:
    return f"{spoken.by or '@…'} {form}".strip()


def _nowhere(spoken: Spoken) -> Message:
    return Message(team=spoken.team, channel="", ts="")
