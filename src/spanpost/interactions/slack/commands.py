"""Commands in words, answered to their author alone: running tasks, one task, acts on a task, start.

Authorization. Members of the workspace see the tasks of its tenant; a rule about `view` that matches a task
decides instead. Tasks of other tenants are seen only in a workspace that is not bound to one, by a rule
that names the tenant. A cancel is judged like *Cancel* in the task's own message: the author chooses the
channel of a command, so the channel grants nothing. For the same reason a start has no channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from spanpost.interactions import texts as words
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import VIEW, foreign
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.requested_acts import RequestedAct, Start, WrongParameters
from spanpost.interactions.slack import lines, modals, starts
from spanpost.interactions.slack.entities import Entities
from spanpost.interactions.slack.lines import Line, SlackAnswer
from spanpost.interactions.slack.lists import ListPage, ListPosition, TaskLists, position_of
from spanpost.interactions.slack.phrases import MORE, Spoken
from spanpost.interactions.slack.web import Web
from spanpost.model.acts import SLACK, ContentKind
from spanpost.model.interventions import Actor, Result, Verb
from spanpost.model.queries import LEAST_PREFIX, TaskFilter, is_begun
from spanpost.model.task_acts import TASK_ACTS
from spanpost.model.tasks import Task
from spanpost.routing.parameters import sentence_of
from spanpost.semconv import FINAL_STATUSES, STATUSES
from spanpost.sinks.slack.blocks import text
from spanpost.tasks.titles import title
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line

#: Entries on a page of running tasks or open questions, and of search results.
_LISTED: Final = 15
_CANDIDATES: Final = 8
#: Characters of an id, at most.
_MOST_REF: Final = 500
_UNDER_WAY: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)
_RUNNING: Final = TaskFilter(statuses=_UNDER_WAY, is_root=True)
#: Commands that change something: recorded before Slack is answered.
ACTS: Final = (*map(str, TASK_ACTS), "start")
#: The commands: a phrase for the form of each, and one for its effect.
_HELP: Final = {
    "": "command.help_list",
    "command.form_show": "command.help_show",
    **{f"command.form_{verb}": f"command.help_{verb}" for verb in TASK_ACTS},
    "command.form_start": "command.help_start",
    "command.form_help": "command.help_help",
}


class Commands:
    """Answers commands in one workspace. `conceal` removes from a task what Slack must not show."""

    def __init__(
        self,
        interactions: Interactions,
        web: Web,
        conceal: Callable[[Task], Task],
        locale: Locale = ENGLISH,
        entities: Entities | None = None,
    ) -> None:
        self._interactions = interactions
        self._entities = entities
        self._words = entities.words(interactions.tenant) if entities is not None else {}
        self._web = web
        self._conceal = conceal
        self._locale = locale
        self._say = locale.say

    async def answer(self, spoken: Spoken) -> SlackAnswer | None:
        """Do a command, and return its answer; None for a repeat. Raises `StoreUnavailable`."""
        commands: dict[str, Callable[[Spoken], Awaitable[SlackAnswer | None]]] = {
            "": self._overview,
            "list": self._overview,
            "show": self._show,
            **dict.fromkeys(map(str, TASK_ACTS), self._act),
            "start": self._start,
            "help": self._help,
            **dict.fromkeys(self._words, self._entity),
        }
        does = commands.get(spoken.word)
        goes = position_of(spoken.rest) if spoken.word == MORE else None
        if spoken.word in ACTS and does is not None:
            return await does(spoken)  # judged by the rules of the act, and recorded if refused
        if (refusal := await self._refusal(spoken)) is not None:
            return refusal
        if not await self._interactions.interventions.is_first(spoken.idempotency_key):
            return None
        if goes is not None:
            return await self._more(spoken, goes)
        if does is None:
            return self._answer(
                [[text(self._say("command.none", word=line(spoken.word, 40)))], *self._help_lines(spoken)]
            )
        return await does(spoken)

    async def _refusal(self, spoken: Spoken) -> SlackAnswer | None:
        """Return the refusal for a user who may see nothing here; None if they may."""
        ruling = foreign()
        if not spoken.is_foreign:
            ruling = await self._interactions.may_list(None, spoken.user, _no_message(spoken))
        return None if ruling.is_granted else SlackAnswer(text=words.refused(ruling, self._locale))

    async def _entity(self, spoken: Spoken) -> SlackAnswer:
        assert self._entities is not None
        command, entity = self._words[spoken.word], spoken.rest.strip()
        found = await self._entities.answer(command, entity, self._locale)
        if not (work := self._entities.work(command, entity)) or spoken.is_foreign:
            return self._answer(found)
        may = await starts.startable(self._interactions, spoken.user, _no_message(spoken))
        return self._answer(found, starts.run_buttons(work, may, self._locale))

    async def _help(self, spoken: Spoken) -> SlackAnswer:
        return self._answer([[text(self._say("command.help"))], *self._help_lines(spoken)])

    def _answer(self, entries: Iterable[Line], buttons: Sequence[dict[str, Any]] = ()) -> SlackAnswer:
        return lines.rich_text(entries, self._locale, buttons)

    # --- lists --------------------------------------------------------------------------------------------

    def _lists(self, spoken: Spoken) -> TaskLists:
        return TaskLists(self._interactions, self._web, spoken.user, spoken.team)

    async def _overview(self, spoken: Spoken) -> SlackAnswer:
        lists = self._lists(spoken)
        running, waiting = await asyncio.gather(lists.tasks(_RUNNING, None, _LISTED), lists.questions(None, _LISTED))
        entries: list[Line] = [[text(self._say("command.runs" if running.tasks else "command.nothing_runs"), "bold")]]
        entries += await self._tasks(lists, running)
        if waiting.questions:
            entries.append([text(self._say("command.waits"), "bold")])
        entries += await self._questions(lists, waiting)
        if running.hidden or waiting.hidden:
            entries.append([text(self._say("command.hidden"))])
        return self._answer(entries, self._buttons(spoken, (running, "tasks"), (waiting, "questions")))

    async def _more(self, spoken: Spoken, goes: ListPosition) -> SlackAnswer:
        """Show the next page of a list."""
        lists, after = self._lists(spoken), (goes.at, goes.key)
        if goes.what == "questions":
            page = await lists.questions(after, _LISTED)
            entries = await self._questions(lists, page)
        else:
            asked = _RUNNING if goes.what == "tasks" else TaskFilter(q=goes.q[:_MOST_REF])
            page = await lists.tasks(asked, after, _LISTED if goes.what == "tasks" else _CANDIDATES)
            entries = await self._tasks(lists, page)
        return self._answer(
            entries or [[text(self._say("command.end"))]], self._buttons(spoken, (page, goes.what), q=goes.q)
        )

    async def _tasks(self, lists: TaskLists, page: ListPage) -> list[Line]:
        links = await lists.links(page.tasks)
        entries = [lines.task(self._conceal(task), links.get(task.uid, ""), self._locale) for task in page.tasks]
        return [*entries, *lines.more(page.beyond, "tasks", self._locale, is_open=page.is_open)]

    async def _questions(self, lists: TaskLists, page: ListPage) -> list[Line]:
        links = await lists.links(one.task for one in page.questions if one.task is not None)
        entries: list[Line] = []
        for one in page.questions:
            assert one.task is not None
            task = self._conceal(one.task)
            # The question as the task shows it, so that concealed parts stay concealed.
            words_of_it = next((approval.question for approval in task.approvals if approval.key == one.row.key), "")
            name = text(line(words_of_it, 200) or self._say("command.question"), link=links.get(task.uid, ""))
            whose = text(f" · {title(task, 100)} · {self._say('command.since')} ")
            entries.append([text("• "), name, whose, lines.since(one.row.requested_at)])
        return [*entries, *lines.more(page.beyond, "questions", self._locale, is_open=page.is_open)]

    def _buttons(self, spoken: Spoken, *pages: tuple[ListPage, str], q: str = "") -> list[dict[str, Any]]:
        """Return the buttons for next pages, where there are any."""
        labels = {
            "tasks": "command.go_on_tasks",
            "questions": "command.go_on_questions",
            "found": "command.go_on_tasks",
        }
        return [
            ListPosition(what=what, q=q, at=page.after[0], key=page.after[1], by=spoken.by).button(
                self._say(labels[what])
            )
            for page, what in pages
            if page.after is not None
        ]

    async def _show(self, spoken: Spoken) -> SlackAnswer:
        if not spoken.rest:
            return self._which(spoken, "command.form_show")
        lists = self._lists(spoken)
        exact = await self._exact(spoken, spoken.rest)
        if exact is not None and (await lists.visible([exact]))[0]:
            return await self._one(spoken, exact)
        page = await self._named(lists, spoken.rest)
        if len(page.tasks) == 1 and not page.is_open:
            return await self._one(spoken, page.tasks[0])
        return await self._candidates(spoken, page)

    async def _one(self, spoken: Spoken, task: Task) -> SlackAnswer:
        lists = self._lists(spoken)
        asked = await lists.asked(task, (await lists.places([task]))[task.uid])
        ruled = any(rule.takes(VIEW, asked) for rule in self._interactions.rules.rules)
        links = await lists.links([task])
        shown = self._conceal(task)
        # The details of the dialogue *Show more* need a rule about `view`; without one only the summary is
        # shown.
        if ruled and self._interactions.read_log is not None:
            by = Actor(provider=SLACK, team=spoken.team, id=spoken.user, credential=SLACK)
            await self._interactions.read_log.note(by, ContentKind.MESSAGE, task.tenant, [task.uid])
        texts = modals.texts(shown, self._locale)[: None if ruled else 1]
        entries: list[Line] = [[text(title(shown), "bold", link=links.get(task.uid, ""))]]
        entries += [[text(part)] for one in texts for part in one.split("\n") if part]
        return self._answer(entries)

    async def _candidates(self, spoken: Spoken, page: ListPage) -> SlackAnswer:
        what = line(spoken.rest, 80)
        if not page.tasks:
            return self._answer([[text(self._say("command.unknown_task", what=what, way=_form(spoken, "")))]])
        entries: list[Line] = [[text(self._say("command.candidates", what=what))]]
        entries += await self._tasks(self._lists(spoken), page)
        return self._answer(entries, self._buttons(spoken, (page, "found"), q=spoken.rest[:_MOST_REF]))

    async def _exact(self, spoken: Spoken, ref: str) -> Task | None:
        return await self._lists(spoken).exact(ref) if len(ref) <= _MOST_REF else None

    async def _named(self, lists: TaskLists, ref: str, statuses: tuple[str, ...] = ()) -> ListPage:
        """Return the tasks whose id begins so, as on the command line; without any, those with these words."""
        asked = TaskFilter(begins=ref[:_MOST_REF], statuses=statuses, shows_all=True)
        page = await lists.tasks(asked, None, _CANDIDATES) if len(ref) >= LEAST_PREFIX else ListPage()
        if page.tasks:
            return page
        return await lists.tasks(TaskFilter(q=ref[:_MOST_REF], statuses=statuses), None, _CANDIDATES)

    # --- acts ---------------------------------------------------------------------------------------------

    async def _act(self, spoken: Spoken) -> SlackAnswer | None:
        """Do an act on a task: `<verb> <id> [word] [text]`."""
        row = TASK_ACTS[Verb(spoken.word)]
        form, needs_more = f"command.form_{row.verb}", row.needs_text or bool(row.options)
        if not spoken.rest:
            return self._which(spoken, form)
        lists = self._lists(spoken)
        ref, said = [*spoken.rest.split(None, 1), ""][:2]
        task = None if needs_more else await self._exact(spoken, spoken.rest)
        if task is not None:
            said = ""
        else:
            task = await self._exact(spoken, ref)
        if task is None:
            if (refusal := await self._refusal(spoken)) is not None:
                return refusal
            if not needs_more:  # the words of a name are no id with a comment
                ref, said = spoken.rest, ""
            page = await self._named(lists, ref, row.statuses)
            if len(page.tasks) != 1 or page.is_open or not is_begun(page.tasks[0].uid, page.tasks[0].task_id, ref):
                return await self._candidates(spoken, page)
            task = page.tasks[0]
        option: int | None = None
        if row.options:
            word, said = [*said.split(None, 1), "", ""][:2]
            option = row.options.index(word) if word in row.options else None
        if (row.options and option is None) or (row.needs_text and not said.strip()):
            return self._answer([[text(self._say("command.no_text", way=_form(spoken, self._say(form))))]])
        act = RequestedAct(
            verb=row.verb,
            key=task.uid,
            user=spoken.user,
            message=(await lists.places([task]))[task.uid],
            is_foreign=spoken.is_foreign,
            option=option,
            text=said.strip(),
            idempotency_key=spoken.idempotency_key,
            at=spoken.at,
        )
        outcome = await self._interactions.do(act)
        if outcome.answer:
            return SlackAnswer(text=outcome.answer)
        if outcome.result is not Result.DONE or (outcome.verdict is not None and outcome.verdict.is_repeat):
            return None
        assert outcome.verdict is not None
        name = title(self._conceal(task))
        return self._answer([[text(words.done(row.verb, outcome.verdict, name, self._locale))]])

    async def _start(self, spoken: Spoken) -> SlackAnswer | None:
        """Start work at once, or open the dialogue that asks for the launcher and for its parameters."""
        launcher, rest = [*spoken.rest.split(None, 1), "", ""][:2]
        if spoken.trigger and (view := await self._start_dialogue(spoken, launcher, rest.strip())) is not None:
            is_first = await self._interactions.interventions.is_first(spoken.idempotency_key)
            return SlackAnswer(view=view) if is_first else None
        known = sorted(self._interactions.launches.launchers)
        there = ", ".join(line(one, 60) for one in known) or self._say("command.no_launchers")
        if launcher not in known:
            if (refusal := await self._refusal(spoken)) is not None:
                return refusal
            if launcher:
                return self._answer(
                    [[text(self._say("command.no_launcher", launcher=line(launcher, 60), known=there))]]
                )
            way = _form(spoken, self._say("command.form_start"))
            return self._answer([[text(self._say("command.which_launcher", way=way, known=there))]])
        order = Start(
            launcher=launcher,
            text=rest.strip(),
            user=spoken.user,
            message=_no_message(spoken),
            is_foreign=spoken.is_foreign,
            idempotency_key=spoken.idempotency_key,
            at=spoken.at,
        )
        try:
            outcome = await self._interactions.start(order, locale=self._locale)
        except WrongParameters as wrong:  # of a mention, which cannot open a dialogue
            why = sentence_of(wrong.faults, self._locale.tell)
            return self._answer([[text(self._say("command.wrong_parameters", launcher=launcher, why=why))]])
        if outcome.answer:
            return SlackAnswer(text=outcome.answer)
        if outcome.result is not Result.DONE or (outcome.verdict is not None and outcome.verdict.is_repeat):
            return None
        assert outcome.verdict is not None
        return self._answer([[text(words.done(Verb.START, outcome.verdict, launcher, self._locale))]])

    async def _start_dialogue(self, spoken: Spoken, launcher: str, said: str) -> dict[str, Any] | None:
        """Return the dialogue of a start; None where there is nothing to ask, or the user may start nothing."""
        if spoken.is_foreign:
            return None
        launches, place = self._interactions.launches, _no_message(spoken)
        if launcher:
            declared = launches.declared(launcher) if launcher in launches.launchers else ()
            if not declared or not (await self._interactions.may_start(launcher, spoken.user, place)).is_granted:
                return None
            return starts.form(starts.StartMeta(launcher, spoken.channel, said), declared, self._locale)
        if not (may := await starts.startable(self._interactions, spoken.user, place)):
            return None
        if len(may) > 1:
            return starts.chooser(may, starts.StartMeta("", spoken.channel), self._locale)
        return starts.form(starts.StartMeta(may[0], spoken.channel), launches.declared(may[0]), self._locale)

    # --- help ---------------------------------------------------------------------------------------------

    def _which(self, spoken: Spoken, form: str) -> SlackAnswer:
        way = _form(spoken, self._say(form))
        return self._answer([[text(self._say("command.which", way=way, list=_form(spoken, "")))]])

    def _help_lines(self, spoken: Spoken) -> list[Line]:
        ways = {_form(spoken, self._say(form) if form else ""): what for form, what in _HELP.items()}
        found: list[Line] = [[text(way, "bold"), text(f" – {self._say(what)}")] for way, what in ways.items()]
        for word, one in self._words.items():
            what = self._say("command.help_entity", what=one.what or self._say("command.entity"))
            found.insert(
                -1, [text(_form(spoken, self._say("command.form_entity", word=word)), "bold"), text(f" – {what}")]
            )
        return found


def _form(spoken: Spoken, form: str) -> str:
    return f"{spoken.by or '@…'} {form}".strip()


def _no_message(spoken: Spoken) -> PersonMessage:
    return PersonMessage(team=spoken.team, channel="", ts="")
