"""What the desk tells people. In Slack's mrkdwn: our own words, with everybody else's text escaped."""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.desk.who import Ruling
from spanpost.domain.interventions import Result, Verb, Verdict
from spanpost.fold.redact import line

#: More of those who may are not named.
NAMED = 8
DID = {
    "approve": "approved",
    "deny": "denied",
    "expired": "not answered in time",
}
LATE = "This takes longer than it should. Wait for the message to change; if it does not, try again."
UNSURE = "It could not be recorded, because the database does not answer. Nothing has changed; please try again."
UNCERTAIN = "Something went wrong, and it is not certain what became of it. See what runs before you try again."
AWAY = "The database does not answer just now; please ask again."
UNKNOWN = "This button belongs to nothing that is known here: it may be of another installation, or of long ago."
ELSEWHERE = "This button does not belong to this message."
NO_DIALOGUE = "The dialogue could not be opened. Please press the button again."
NOBODY_LISTENS = "Nothing is set up here that could start this task again."
NO_OPTION = "That answer is not among those that the agent offered."


def escape(text: str) -> str:
    """Escape what would be read as mrkdwn's mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def said(text: str, limit: int = 300) -> str:
    """Return somebody else's text on one line, literal."""
    return escape(line(text, limit))


def refused(ruling: Ruling) -> str:
    """Tell somebody that they may not, why, and who may."""
    told = f"Not done: {said(ruling.refusal)}."
    if named := who_may(ruling.who):
        told += f" Who may: {named}."
    return told


def who_may(who: Sequence[tuple[str, str]]) -> str:
    """Name those who may; mentions in an ephemeral message call nobody."""
    if not who:
        return ""
    forms = {
        "user": "<@{}>",
        "group": "<!subteam^{}>",
        "channel": "members of <#{}>",
        "email": "{}",
        "role": "those with the role {} at the API",
        "requester": "the one for whom the task runs",
        "resolver": "whoever {} lets",
    }
    named = [forms[kind].format(escape(value)) for kind, value in who[:NAMED]]
    more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
    return ", ".join(named) + more


def verdict(verb: Verb, verdict: Verdict) -> str:
    """Tell somebody what became of their act, where the message itself will not; empty when it will."""
    by = f" by {said(verdict.by, 100)}" if verdict.by else ""
    match verdict.result:
        case Result.DONE | Result.REFUSED:
            return ""
        case Result.DECIDED if verb is Verb.RETRY:
            return f"It is being tried again already, as asked{by}."
        case Result.DECIDED:
            return f"Already {decision(verdict.decision)}{by}: the first answer stands."
        case Result.VOID:
            return "The agent has asked this again in other words; please answer the newer question."
        case Result.EXPIRED:
            return "The time for an answer is over."
        case Result.TOO_LATE:
            what = "heard" if verb is Verb.MESSAGE else "done"
            return f"Too late: the task has ended, or is in a state in which this cannot be {what}."
        case Result.UNKNOWN:
            return UNKNOWN


def decision(decision: str) -> str:
    """Return a decision as a word that follows *was*."""
    return DID.get(decision, f"answered with “{said(decision, 80)}”" if decision else "answered")
