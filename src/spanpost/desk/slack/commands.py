"""What somebody asks of the app in words, answered to them alone: what runs and what waits, one task, a cancel, a start.

Who may. Told of tasks is whoever is a member of the workspace, of those of its tenant, and where a rule is about seeing one
(`view`), whom that rule lets. Of other tenants' tasks, in a workspace that is nobody's own, whom a rule lets that names the tenant. A cancel is weighed as if *Cancel* had been pressed in the task's own message, wherever it is said: the
channel in which somebody writes a command is of their own choosing, and gives them nothing. So a start is said nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from spanpost.conventions import FINAL_STATUSES, STATUSES
from spanpost.desk import words
from spanpost.desk.acts import Act, Desk, Start
from spanpost.desk.base import Message
from spanpost.desk.slack import lines, modals
from spanpost.desk.slack.lines import Line, Told, text
from spanpost.desk.slack.looking import LOOKED, Goes, Listed, Looking, goes_of
from spanpost.desk.slack.spoken import MORE, Spoken
from spanpost.desk.slack.web import Web
from spanpost.desk.who import FOREIGN, VIEW, Ruling
from spanpost.domain.browsing import TaskFilter
from spanpost.domain.interventions import Result, Verb
from spanpost.domain.tasks import Task
from spanpost.fold.redact import line

#: Listed on a page, of what runs or waits, and of what was found.
_LISTED: Final = 15
_CANDIDATES: Final = 8
#: The beginning of an id is taken for it, where only one begins so, from so many characters on.
_LEAST: Final = 4
#: An id is hardly longer.
_MOST_REF: Final = 500
_UNDER_WAY: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)
_RUNNING: Final = TaskFilter(statuses=_UNDER_WAY, is_root=True)
#: What changes something: recorded before Slack is answered.
ACTS: Final = ("cancel", "start")
_HELP: Final = {
    "": "what runs, and what waits for an answer",
    "show <id or words>": "one task, or those that the words fit",
    "cancel <id>": "ask a task to stop",
    "start <launcher> [text]": "have new work started",
    "help": "this",
}


class Commands:
    """Answers, in one workspace. `conceal` hides of a task what is not to be seen in Slack."""

    def __init__(self, desk: Desk, web: Web, conceal: Callable[[Task], Task]) -> None:
        self._desk = desk
        self._web = web
        self._conceal = conceal

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
        goes = goes_of(spoken.rest) if spoken.word == MORE else None
        if spoken.word in ACTS and does is not None:
            return await does(spoken)  # refused by rules of their own, which keep a row of it
        if (refusal := await self._unfit(spoken)) is not None:
            return refusal
        if not await self._desk.hall.is_first(spoken.once):
            return None
        if goes is not None:
            return await self._more(spoken, goes)
        if does is None:
            return lines.told([[text(f"There is no command “{line(spoken.word, 40)}”. There is:")], *_help(spoken)])
        return await does(spoken)

    async def _unfit(self, spoken: Spoken) -> Told | None:
        """Return what somebody is told who may not be told of anything here."""
        ruling = Ruling(refusal=FOREIGN)
        if not spoken.is_foreign:
            ruling = await self._desk.may_look(None, spoken.user, _nowhere(spoken))
        return None if ruling.is_granted else Told(text=words.refused(ruling))

    async def _help(self, spoken: Spoken) -> Told:
        return lines.told([[text("Ask me:")], *_help(spoken)])

    # --- looking ----------------------------------------------------------------------------------------------------

    def _looking(self, spoken: Spoken) -> Looking:
        return Looking(self._desk, self._web, spoken.user, spoken.team)

    async def _overview(self, spoken: Spoken) -> Told:
        looking = self._looking(spoken)
        running, waiting = await asyncio.gather(looking.tasks(_RUNNING, None, _LISTED), looking.questions(None, _LISTED))
        said: list[Line] = [[text("What runs" if running.tasks else "Nothing runs.", is_bold=True)]]
        said += await self._tasks(looking, running)
        if waiting.questions:
            said.append([text("What waits for an answer", is_bold=True)])
        said += await self._questions(looking, waiting)
        if running.hidden or waiting.hidden:
            said.append([text("Some that you may not see are not listed.")])
        return lines.told(said, _buttons(spoken, (running, "tasks", "More tasks"), (waiting, "questions", "More questions")))

    async def _more(self, spoken: Spoken, goes: Goes) -> Told:
        """Go on with a list."""
        looking, after = self._looking(spoken), (goes.at, goes.key)
        if goes.what == "questions":
            page = await looking.questions(after, _LISTED)
            said = await self._questions(looking, page)
        else:
            asked = _RUNNING if goes.what == "tasks" else TaskFilter(q=goes.q[:_MOST_REF])
            page = await looking.tasks(asked, after, _LISTED if goes.what == "tasks" else _CANDIDATES)
            said = await self._tasks(looking, page)
        said = said or [[text("There is no more.")]]
        return lines.told(said, _buttons(spoken, (page, goes.what, "More"), q=goes.q))

    async def _tasks(self, looking: Looking, page: Listed) -> list[Line]:
        links = await looking.links(page.tasks)
        said = [lines.task(self._conceal(task), links.get(task.uid, "")) for task in page.tasks]
        return [*said, *lines.more(page.beyond, "tasks", is_open=page.is_open)]

    async def _questions(self, looking: Looking, page: Listed) -> list[Line]:
        links = await looking.links(one.task for one in page.questions if one.task is not None)
        said: list[Line] = []
        for one in page.questions:
            assert one.task is not None
            task = self._conceal(one.task)
            # The question as the task may show it: what is concealed of it is concealed here.
            words_of_it = next((approval.question for approval in task.approvals if approval.key == one.row.key), "")
            name = text(line(words_of_it, 200) or "a question", link=links.get(task.uid, ""))
            said.append(
                [text("• "), name, text(f" · {line(task.name or task.task_id, 100)} · since "), lines.since(one.row.requested_at)]
            )
        return [*said, *lines.more(page.beyond, "questions", is_open=page.is_open)]

    async def _show(self, spoken: Spoken) -> Told:
        if not spoken.rest:
            return _which(spoken, "show <id or words>")
        looking = self._looking(spoken)
        exact = await self._exact(spoken)
        if exact is not None and (await looking.visible([exact]))[0]:
            return await self._one(spoken, exact)
        page = await looking.tasks(TaskFilter(q=spoken.rest[:_MOST_REF]), None, _CANDIDATES)
        if len(page.tasks) == 1 and not page.is_open:
            return await self._one(spoken, page.tasks[0])
        return await self._candidates(spoken, page)

    async def _one(self, spoken: Spoken, task: Task) -> Told:
        looking = self._looking(spoken)
        asked = await looking.asked(task, (await looking.places([task]))[task.uid])
        ruled = any(rule.takes(VIEW, asked) for rule in self._desk.rules.rules)
        links = await looking.links([task])
        shown = self._conceal(task)
        # All that the dialogue *Show more* has is for those whom a rule lets see it.
        texts = modals.texts(shown)[: None if ruled else 1]
        said: list[Line] = [[text(line(shown.name or shown.task_id, 200), is_bold=True, link=links.get(task.uid, ""))]]
        said += [[text(part)] for one in texts for part in one.split("\n") if part]
        return lines.told(said)

    async def _candidates(self, spoken: Spoken, page: Listed) -> Told:
        what = line(spoken.rest, 80)
        if not page.tasks:
            return lines.told([[text(f"Nothing is known here by “{what}”. Say {_way(spoken, '')} for what runs.")]])
        said: list[Line] = [[text(f"“{what}” is no task's id; it fits these. Say one of the ids that stand last:")]]
        said += await self._tasks(self._looking(spoken), page)
        return lines.told(said, _buttons(spoken, (page, "found", "More"), q=spoken.rest[:_MOST_REF]))

    async def _exact(self, spoken: Spoken) -> Task | None:
        return await self._looking(spoken).exact(spoken.rest) if len(spoken.rest) <= _MOST_REF else None

    # --- acts -------------------------------------------------------------------------------------------------------

    async def _cancel(self, spoken: Spoken) -> Told | None:
        if not spoken.rest:
            return _which(spoken, "cancel <id>")
        looking = self._looking(spoken)
        task = await self._exact(spoken)
        if task is None:
            if (refusal := await self._unfit(spoken)) is not None:
                return refusal
            page = await looking.tasks(TaskFilter(q=spoken.rest[:_MOST_REF], statuses=_UNDER_WAY), None, LOOKED)
            begin = [one for one in page.tasks if one.task_id.startswith(spoken.rest)]
            if len(begin) != 1 or page.is_open or len(spoken.rest) < _LEAST:
                few = begin if len(begin) > 1 else page.tasks
                beyond = max(len(few) - _CANDIDATES, 0)
                return await self._candidates(spoken, Listed(tasks=few[:_CANDIDATES], beyond=beyond, is_open=page.is_open))
            task = begin[0]
        act = Act(
            verb=Verb.CANCEL,
            key=task.uid,
            user=spoken.user,
            message=(await looking.places([task]))[task.uid],
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
        return lines.told([[text(f"Asked to stop: {name}. It goes on until its agent heeds it.")]])

    async def _start(self, spoken: Spoken) -> Told | None:
        launcher, rest = [*spoken.rest.split(None, 1), "", ""][:2]
        known = sorted(self._desk.launches.launchers)
        there = ", ".join(line(one, 60) for one in known) or "none, until the settings name one"
        if launcher not in known:
            if (refusal := await self._unfit(spoken)) is not None:
                return refusal
            begin = (
                f"There is no launcher “{line(launcher, 60)}”."
                if launcher
                else f"Say which: {_way(spoken, 'start <launcher> [text]')}."
            )
            return lines.told([[text(f"{begin} Launchers: {there}.")]])
        order = Start(
            launcher=launcher,
            text=rest.strip(),
            user=spoken.user,
            message=_nowhere(spoken),
            is_foreign=spoken.is_foreign,
            once=spoken.once,
            at=spoken.at,
        )
        outcome = await self._desk.start(order)
        if outcome.told:
            return Told(text=outcome.told)
        if outcome.result is not Result.DONE or (outcome.verdict is not None and outcome.verdict.is_repeat):
            return None
        return lines.told([[text(f"{launcher} was asked to start it. Its task is told where the routes say.")]])


def _buttons(spoken: Spoken, *pages: tuple[Listed, str, str], q: str = "") -> list[dict[str, Any]]:
    """Return the buttons that go on with lists that have not ended."""
    return [
        Goes(what=what, q=q, at=page.after[0], key=page.after[1], by=spoken.by).button(label)
        for page, what, label in pages
        if page.after is not None
    ]


def _which(spoken: Spoken, form: str) -> Told:
    return lines.told([[text(f"Say which: {_way(spoken, form)}. {_way(spoken, '')} lists what runs, with its id last.")]])


def _way(spoken: Spoken, form: str) -> str:
    return f"{spoken.by or '@…'} {form}".strip()


def _nowhere(spoken: Spoken) -> Message:
    return Message(team=spoken.team, channel="", ts="")


def _help(spoken: Spoken) -> list[Line]:
    return [[text(_way(spoken, form), is_bold=True), text(f" – {what}")] for form, what in _HELP.items()]
