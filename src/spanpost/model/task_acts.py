"""The table of acts on a task. The API's routes, the tools of MCP, the commands of the command line and of
`/agents` are made from it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from spanpost.model.interventions import RATINGS, Verb
from spanpost.semconv import CANCELLED, ERROR, FINAL_STATUSES, STATUSES

_RUNNING: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)


class TaskAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act on a task, as every endpoint offers it."""

    verb: Verb
    #: Its effect, in one sentence: the API's description and the command's help.
    does: str
    #: Statuses of the tasks that it can concern: a beginning of an id is looked up among them.
    statuses: tuple[str, ...] = _RUNNING
    #: It is nothing without a text (a message); else a text is a comment.
    needs_text: bool = False
    #: It takes one of these words.
    options: tuple[str, ...] = ()
    #: The command line asks the person before it.
    asks_first: bool = False

    @property
    def path(self) -> str:
        """Last part of its path in the API."""
        return "messages" if self.verb is Verb.MESSAGE else str(self.verb)

    def body(self, text: str, option: str = "") -> dict[str, str]:
        """Return the body of its request to the API."""
        return {"text" if self.needs_text else "comment": text} | ({"rating": option} if self.options else {})


TASK_ACTS: Final[dict[Verb, TaskAct]] = {
    one.verb: one
    for one in (
        TaskAct(verb=Verb.CANCEL, does="Ask a task to stop. It runs on until the agent reacts.", asks_first=True),
        TaskAct(verb=Verb.PAUSE, does="Ask a task to pause."),
        TaskAct(verb=Verb.RESUME, does="Ask a paused task to continue."),
        TaskAct(
            verb=Verb.RETRY,
            does="Start a task again, as a new one, if a launcher for it is configured.",
            statuses=(ERROR, CANCELLED),
        ),
        TaskAct(verb=Verb.MESSAGE, does="Send a message to a task's agent.", needs_text=True),
        TaskAct(verb=Verb.MUTE, does="Mute a task: fewer notifications.", statuses=STATUSES),
        TaskAct(verb=Verb.UNMUTE, does="Unmute a task.", statuses=STATUSES),
        TaskAct(verb=Verb.DISMISS, does="Dismiss a task's loop: it is not reported again unless it doubles."),
        TaskAct(
            verb=Verb.RATE,
            does="Rate a task's work, with a comment. A person's newest rating of a task stands.",
            statuses=STATUSES,
            options=RATINGS,
        ),
    )
}
