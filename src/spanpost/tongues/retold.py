"""What the fold made up is stored in English, as the audit has it; here it is said anew in another language.

A checkpoint's kind says who made its text up; its shape gives the figures back. What has no shape of ours is an agent's, and
stays as it is. `tests/test_tongues.py` holds each shape to the function that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from spanpost.domain.checkpoints import Checkpoint, Kind

if TYPE_CHECKING:
    from spanpost.tongues import Tongue

_Said: TypeAlias = Callable[[re.Match[str], "Tongue"], str]

#: A length of time as `fold.moments.duration` writes it, rounded ones of a forecast included; a number with its commas.
_TIME: Final = r"(?:\d+ h \d\d min|\d+ min \d\d s|\d+(?:\.\d)? s)"
_NUMBER: Final = r"\d[\d,]*"
_SHARE: Final = r"\d+(?:\.\d+)?(?:e\+\d+)?"
_BUDGET: Final = r"Budget {name}(?: of (?P<whom>.*))? is (?P<share>\d+) % spent: (?P<figures>.*)"


def _time(said: str, tongue: Tongue) -> str:
    """Say a length of time anew."""
    figures = [float(one) for one in re.findall(r"\d+(?:\.\d)?", said)]
    if said.endswith("min"):
        return tongue.span(figures[0] * 3_600 + figures[1] * 60)
    if "min" in said:
        return tongue.span(figures[0] * 60 + figures[1])
    if figures[0] % 1:
        return tongue.say("span.seconds", s=f"{figures[0]:.1f}")
    return tongue.span(figures[0])


def _limit(said: str, tongue: Tongue) -> str:
    """Say a limit of a context window anew: "85 %", "150,000 tokens"."""
    if said.endswith(" %"):
        share = float(said.removesuffix(" %"))
        return tongue.say("figure.percent", share=share) if share == int(share) else said.replace(" %", "%")
    return tongue.say("figure.tokens", n=said.removesuffix(" tokens"))


def _range(low: str, high: str, tongue: Tongue) -> str:
    return tongue.say("told.range", low=low, high=high)


def _in(key: str) -> _Said:
    return lambda found, tongue: tongue.say(key, time=_time(found["time"], tongue))


def _as(key: str, **names: str) -> _Said:
    """Return what says a phrase with groups of the match in it, by their names or others."""
    return lambda found, tongue: tongue.say(key, **(names | found.groupdict()))


def _failed(found: re.Match[str], tongue: Tongue) -> str:
    return tongue.say("told.failed_why", why=said_anew(found["why"], tongue))


def _context(found: re.Match[str], tongue: Tongue) -> str:
    given = found.groupdict()
    if given["share"] is not None:
        source = tongue.say("told.context_known", source=tongue.word(f"window.{given['source']}", given["source"]))
        known = f"{source}; {given['model']}" if given["model"] else source
        text = tongue.say("told.context_full", share=given["share"], used=given["used"], window=given["window"], known=known)
    else:
        text = tongue.say("told.context_at", used=given["at"]) + (f" ({given['lane']})" if given["lane"] else "")
    return tongue.say("told.past", text=text, limit=given["past"]) if given["past"] else text


def _forecast(found: re.Match[str], tongue: Tongue) -> str:
    limit, calls = _limit(found["limit"], tongue), int(found["calls"])
    if found["time"]:
        said = tongue.say("figure.forecast_time", limit=limit, n=calls, time=_time(found["time"], tongue))
    else:
        said = tongue.say("figure.forecast", limit=limit, n=calls)
    spread = []
    if found["fewest"]:
        spread.append(_range(found["fewest"], tongue.say("told.calls", n=int(found["most"])), tongue))
    if found["soon"]:
        spread.append(_range(_time(found["soon"], tongue), _time(found["late"], tongue), tongue))
    return tongue.say("told.forecast", forecast=f"{said} ({', '.join(spread)})" if spread else said)


def _compacted(found: re.Match[str], tongue: Tongue) -> str:
    before, after = found["before"] or found["from_"], found["after"] or found["to"]
    if before and after:
        text = tongue.say("told.compacted_both", before=before, after=after)
    elif before:
        text = tongue.say("told.compacted_from", before=before)
    else:
        text = tongue.say("told.compacted_to", after=after) if after else tongue.say("told.compacted")
    return tongue.say("told.inferred", text=text) if found["inferred"] else text


def _budget(checkpoint: Checkpoint, tongue: Tongue) -> str:
    """Say anew what is spent of a budget (`fold.spend.in_words`): its name is the first word of the reference."""
    name = checkpoint.ref.rpartition(" ")[0]
    found = re.fullmatch(_BUDGET.format(name=re.escape(name)), checkpoint.text, re.DOTALL)
    if found is None:
        return tongue.say("told.budget_unnamed") if checkpoint.text == "A budget is nearly spent" else checkpoint.text
    figures = [
        tongue.say("told.of_tokens" if part.endswith(" tokens") else "told.of", part=spent, whole=of.removesuffix(" tokens"))
        for part in found["figures"].split(", ")
        for spent, _, of in [part.partition(" of ")]
    ]
    key = "told.budget_of" if found["whom"] else "told.budget"
    return tongue.say(key, budget=name, whom=found["whom"], share=found["share"], figures=", ".join(figures))


def _at_work(found: re.Match[str], tongue: Tongue) -> str:
    said = tongue.say("told.at_work", open=found["open"], all=found["all"]) if found["open"] else tongue.say("told.one_at_work")
    return said + found["names"]


_Shapes: TypeAlias = tuple[tuple[re.Pattern[str], _Said], ...]


def _shapes(*given: tuple[str, _Said]) -> _Shapes:
    return tuple((re.compile(shape, re.DOTALL), said) for shape, said in given)


_BY_KIND: Final[Mapping[Kind, _Shapes]] = {
    Kind.START: _shapes(("Started: (?P<name>.*)", _as("told.started")), ("Resumed: (?P<name>.*)", _as("told.resumed"))),
    Kind.END: _shapes(
        ("Failed", _as("told.failed")),
        ("Failed: (?P<why>.*)", _failed),
        ("Complete", _as("told.complete")),
        (f"Complete in (?P<time>{_TIME})", _in("told.complete_in")),
        ("Cancelled", _as("told.cancelled")),
        (f"Cancelled in (?P<time>{_TIME})", _in("told.cancelled_in")),
        ("Waiting for its next prompt", _as("told.next_prompt")),
        ("Waiting for a person", _as("told.waiting")),
    ),
    Kind.MILESTONE: _shapes((r"(?P<share>\d+) % done", _as("told.percent"))),
    Kind.STALLED: _shapes((f"Nothing heard for (?P<time>{_TIME})", _in("told.silent"))),
    Kind.CONTEXT_WARNING: _shapes(
        (
            rf"Context (?:(?P<share>\d+) % full: (?P<used>{_NUMBER}) of (?P<window>{_NUMBER}) tokens "
            rf"\(window: (?P<source>[a-z]+)(?:; (?P<model>.*))?\)|at (?P<at>{_NUMBER}) tokens(?: \((?P<lane>.*)\))?)"
            rf"(?:, past (?P<past>{_NUMBER}))?",
            _context,
        )
    ),
    Kind.CONTEXT_FORECAST: _shapes(
        (
            rf"Context: (?P<limit>{_SHARE} %|{_NUMBER} tokens) in about (?P<calls>\d+) calls?(?:, (?P<time>{_TIME}))?"
            rf"(?: \((?:(?P<fewest>\d+) to (?P<most>\d+) calls)?(?:, )?(?:(?P<soon>{_TIME}) to (?P<late>{_TIME}))?\))?",
            _forecast,
        )
    ),
    Kind.COMPACTION: _shapes(
        (
            rf"Context compacted(?:: (?:(?P<before>{_NUMBER}) → (?P<after>{_NUMBER})|from (?P<from_>{_NUMBER})|to (?P<to>{_NUMBER}))"
            rf" tokens)?(?P<inferred> \(inferred from the drop\))?",
            _compacted,
        )
    ),
    Kind.APPROVAL_REQUESTED: _shapes(
        ("A decision is needed", _as("told.decision_needed")),
        (
            "Nobody has answered: a decision is needed",
            lambda _, t: t.say("told.nobody_answered", question=t.say("told.decision_needed")),
        ),
        ("Nobody has answered: (?P<question>.*)", _as("told.nobody_answered")),
    ),
    Kind.APPROVAL_RESOLVED: _shapes(
        ("Nobody decided in time", _as("told.expired")),
        ("Nobody decided in time: (?P<decision>.*)", _as("told.expired_as")),
    ),
}
#: What stands in a task itself: in what it is doing, its step, its failure, a forecast's limit, and for somebody without a name.
_OF_TASKS: Final = _shapes(
    ("tool: (?P<name>.*)", _as("told.tool")),
    (r"(?:(?P<open>\d{1,6}) of (?P<all>\d{1,6}) agents|an agent) at work(?P<names>|: .*)", _at_work),
    ("Prompt", _as("told.prompt")),
    (rf"Prompt of (?P<length>{_NUMBER}) characters", _as("told.prompt_of")),
    ("The process ended with the task open\\.", _as("told.process_ended")),
    ("Its process is not heard of any more\\.", _as("told.process_silent")),
    (f"{_SHARE} %|{_NUMBER} tokens", lambda found, tongue: _limit(found[0], tongue)),
    ("a person", _as("told.a_person_small")),
)


def retold(checkpoint: Checkpoint, tongue: Tongue) -> str:
    """Return a checkpoint's text in a language, where it is ours; else as it is."""
    if tongue.code == "en":
        return checkpoint.text
    if checkpoint.kind is Kind.CHECKPOINT and checkpoint.ref in ("cancel", "pause", "resume", "retry"):
        return _asked(checkpoint, tongue)
    if checkpoint.kind is Kind.BUDGET_WARNING:
        return _budget(checkpoint, tongue)
    return _anew(checkpoint.text, _BY_KIND.get(checkpoint.kind, ()), tongue)


def said_anew(text: str, tongue: Tongue) -> str:
    """Return a text of a task in a language, where it has a shape of ours; else as it is."""
    return text if tongue.code == "en" else _anew(text, _OF_TASKS, tongue)


def _anew(text: str, shapes: _Shapes, tongue: Tongue) -> str:
    for shape, say in shapes:
        if (found := shape.fullmatch(text)) is not None:
            return say(found, tongue)
    return text


def _asked(checkpoint: Checkpoint, tongue: Tongue) -> str:
    """Say anew what somebody asked of the task (`fold.acts.line`)."""
    ends = {
        "cancel": "asked to stop it",
        "pause": "asked to pause it",
        "resume": "asked to go on",
        "retry": "asked to try it again",
    }
    who, is_there, rest = checkpoint.text.partition(f" {ends[checkpoint.ref]}")
    if not is_there:
        return checkpoint.text
    said = tongue.say(f"told.asked_{checkpoint.ref}", who=tongue.say("told.a_person") if who == "A person" else who)
    return said + rest
