"""Loops: whether an agent run repeats itself, from its newest calls. Pure.

Rules. A call is *new* when nothing in the window has shown the same: the same arguments with the same result,
the same error of the same tool, or the same long result of it. A call of which neither is known is new, too.
Whatever is new is progress, and begins the count anew; so do a report that says something new, an act of a
person, and a minute in which nothing ran. What is counted is the repetition since the last progress:

- `SAME_CALL`: one call, with the same arguments. `SAME_ERROR`, `SAME_RESULT`: one tool, whatever it is given.
- `CYCLE`: two to four calls in turn.
- `NO_PROGRESS`: many calls, all made before, while the context grows.

Where results are not captured, more calls are needed, and a cycle in the same order: the result may have
changed each time.

Calls that overlap are one round. Where model calls are known, a repetition without one between was made by a
program (a retry, a wait in code): four of them are one round. A tool that waits or steps by its nature
(`LoopRules.patient_tools`), or that answers "not yet", may be called `patient_calls` times.

Theory. The window is the newest `CALL_CAP` calls, whatever came first, and the verdict is a function of the
window alone: so it is the same for any order and any repetition.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import msgspec

from spanpost.model.loops import LoopKind
from spanpost.routing.matching import is_wanted
from spanpost.tasks.loop_facts import CALL_CAP, Mark, ToolCall, Turn

#: Nanoseconds in which nothing ran, after which a repetition is a wait.
IDLE = 60 * 10**9
#: Repetitions by a program that count as one round.
_BY_PROGRAM = 4
#: Calls in turn that are a cycle; more are no pattern.
_IN_TURN = 4
#: How much longer the last wait of a back-off is than the first, at least.
_SLOWER = 3
#: Factors where results are not captured: of one call, as it may be a question for how far a job is; of
#: others. Factor where each attempt waits longer than the one before.
UNSEEN_CALL, UNSEEN, _BACKING_OFF = 6, 2, 2


@dataclass(frozen=True, kw_only=True)
class LoopRules:
    """When an agent run counts as repeating itself."""

    enabled: bool = True
    #: Calls with the same arguments; calls with the same error or long result but other arguments; rounds of
    #: a cycle; calls in no pattern.
    same_call: int = 6
    same_outcome: int = 8
    rounds: int = 5
    calls: int = 40
    #: Tools that wait or step by their nature: patterns of their names in lower case, and the calls they may
    #: make.
    patient_tools: tuple[str, ...] = (
        "*wait*",
        "*sleep*",
        "*poll*",
        "*status*",
        "*progress*",
        "*health*",
        "*monitor*",
        "*watch*",
        "*check*",
        "*heartbeat*",
        "*next*",
        "*scroll*",
        "*page*",
        "*more*",
        "*press*",
        "*click*",
        "*tap*",
        "*step*",
        "*tick*",
        "*move*",
        "*receive*",
        "*dequeue*",
        "*pop*",
        "*screenshot*",
        "*snapshot*",
        "*observe*",
        "*random*",
        "*roll*",
        "*bashoutput*",
        "*taskoutput*",
    )
    patient_calls: int = 30
    #: Agents and types of tasks that are not judged; ``*`` stands for anything.
    ignore_agents: tuple[str, ...] = ()
    ignore_types: tuple[str, ...] = ()


class FoundLoop(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What repeats in an agent run. `key` is the same as long as the same repeats."""

    kind: str
    key: bytes
    tools: tuple[str, ...]
    count: int
    at_ns: int


class _Tally:
    """How often one call was repeated since the last progress."""

    __slots__ = ("arguments", "began", "by_program", "call", "ends", "is_same", "rounds", "waits")

    def __init__(self, call: ToolCall) -> None:
        self.call, self.arguments, self.is_same = call, call.arguments, True
        self.rounds, self.by_program, self.began, self.ends = 1, 0, call.start_ns, call.at_ns
        self.waits: list[int] = []

    @property
    def is_unseen(self) -> bool:
        """True where only the arguments are known: a result is mixed into what a call showed."""
        return not self.call.has_failed and self.call.shown == self.arguments

    @property
    def count(self) -> int:
        return self.rounds + self.by_program // _BY_PROGRAM

    def add(self, call: ToolCall, turns: Sequence[int]) -> None:
        """Count a repetition, unless it overlaps the one before."""
        self.is_same = self.is_same and call.arguments == self.arguments
        if call.start_ns >= self.ends:
            between = bisect_right(turns, call.at_ns) - bisect_right(turns, self.began)
            if turns and not between:
                self.by_program += 1
            else:
                self.rounds += 1
            self.waits.append(call.start_ns - self.ends)
            self.began = call.start_ns
        self.call, self.ends = call, max(self.ends, call.at_ns)


def judge(
    calls: Sequence[ToolCall], turns: Sequence[Turn], marks: Sequence[Mark], rules: LoopRules
) -> FoundLoop | None:
    """Return what repeats at the end of a window; None where its last call is progress.

    All are in order of time; only the last `CALL_CAP` calls are looked at.
    """
    if len(calls) < 2:
        return None
    calls = calls[-CALL_CAP:]
    newest = calls[-1]
    shown = [call.shown for call in calls]
    begin = len(calls) - 1
    if not newest.shown or shown.index(newest.shown) == begin:
        return None
    # Most repetitions are few: find the last call that was new before anything is counted.
    while begin and shown[begin] and shown.index(shown[begin]) != begin:
        begin -= 1
    fewest = min(rules.same_call, rules.same_outcome, 2 * rules.rounds)
    if len(calls) - begin < fewest:
        return None
    if any(mark.at_ns > newest.start_ns and _says_more(marks, n) for n, mark in enumerate(marks)):
        return None
    counts = _count(calls, begin, turns if turns and turns[-1].at_ns > calls[0].start_ns else (), marks)
    if newest.shown not in counts:
        return None
    return _verdict(counts, calls, turns, rules)


def _count(calls: Sequence[ToolCall], begin: int, turns: Sequence[Turn], marks: Sequence[Mark]) -> dict[bytes, _Tally]:
    """Return the repetitions since the last progress, by what they show.

    The call at `begin` is the last that was new.
    """
    counts: dict[bytes, _Tally] = {}
    by_id: dict[int, int] = {}
    ends = [turn.at_ns for turn in turns]
    busy_until, turn, mark = 0, 0, 0
    if begin:
        busy_until = max(one.at_ns for one in calls[:begin])
        by_id = {one.call: one.at_ns for one in calls[:begin] if one.call}
    for call in calls[begin:]:
        while mark < len(marks) and marks[mark].at_ns <= call.start_ns:
            if counts and _says_more(marks, mark):
                counts.clear()
            mark += 1
        while turn < len(turns) and ends[turn] <= call.start_ns:
            if counts and busy_until and turns[turn].start_ns - busy_until > IDLE:
                counts.clear()
            busy_until = max(busy_until, ends[turn])
            turn += 1
        if busy_until and call.start_ns - busy_until > IDLE:
            counts.clear()
        busy_until = max(busy_until, call.at_ns)
        if call.call:
            before = by_id.get(call.call, 0)
            by_id[call.call] = max(before, call.at_ns)
            if before > call.start_ns:
                continue  # another span of the same call
        tally = counts.get(call.shown)
        if tally is not None:
            tally.add(call, ends)
        elif call.shown:
            counts[call.shown] = _Tally(call)
    return counts


def _says_more(marks: Sequence[Mark], at: int) -> bool:
    """Tell whether a report says something that the reports before it did not say."""
    said = marks[at].said
    return all(marks[n].said != said for n in range(at))


def _verdict(
    counts: dict[bytes, _Tally], calls: Sequence[ToolCall], turns: Sequence[Turn], rules: LoopRules
) -> FoundLoop | None:
    newest = calls[-1]
    tallies = sorted(counts.values(), key=lambda one: (-one.count, one.call.shown))
    first, total = tallies[0], sum(one.count for one in tallies)
    is_patient = any(one.call.is_waiting or _is_patient(one.call.tool, rules.patient_tools) for one in tallies)
    kind, needed = _kind(first, rules)
    rounds, patient = rules.rounds, rules.patient_calls
    is_unseen = any(one.is_unseen for one in tallies)
    if is_unseen:
        needed, rounds, patient = needed * UNSEEN_CALL, rounds * UNSEEN, patient * UNSEEN
    if is_patient:
        needed, rounds = max(needed, patient), max(rounds, patient)
    second = tallies[1].count if len(tallies) > 1 else 0
    if len(tallies) <= _IN_TURN:
        if second >= rounds and not (is_unseen and not _is_in_turn(calls, rounds)):
            often = [one for one in tallies if one.count * 2 >= first.count]
            return _found(LoopKind.CYCLE, often, first.count, newest)
        if first.count >= needed + 2 * (second > 0):
            return _found(kind, [first], first.count, newest)
    if len(tallies) > 1 and not is_unseen and total >= rules.calls + rules.patient_calls * is_patient and _grows(turns):
        return _found(LoopKind.NO_PROGRESS, tallies, total, newest)
    return None


def _kind(tally: _Tally, rules: LoopRules) -> tuple[LoopKind, int]:
    """Return what the repetition of one call is, and from which count."""
    needed = rules.same_call if tally.is_same and tally.arguments else rules.same_outcome
    if tally.call.has_failed:
        if not tally.by_program and _is_backing_off(tally.waits):
            needed *= _BACKING_OFF
        return LoopKind.SAME_ERROR, needed
    return (LoopKind.SAME_CALL if tally.is_same else LoopKind.SAME_RESULT), needed


def _is_backing_off(waits: list[int]) -> bool:
    """Tell whether each attempt waited longer than the one before, but for a fifth of its wait."""
    if len(waits) < 3 or waits[-1] < _SLOWER * max(waits[0], 1):
        return False
    return all(after * 5 >= before * 4 for before, after in pairwise(waits))


def _is_in_turn(calls: Sequence[ToolCall], rounds: int) -> bool:
    """Tell whether the last calls repeat in the same order.

    Where results are not captured, a few calls in any order may be moves of a game.
    """
    shown = [one.shown for one in calls]
    return any(
        len(shown) >= size * rounds and all(shown[-n] == shown[-n - size] for n in range(1, size * (rounds - 1) + 1))
        for size in range(2, _IN_TURN + 1)
    )


def _grows(turns: Sequence[Turn]) -> bool:
    """Tell whether the context grows with most model calls, as far as known."""
    tokens = [turn.tokens for turn in turns if turn.tokens]
    return sum(after > before for before, after in pairwise(tokens)) * 2 >= len(tokens) - 1


def _found(kind: LoopKind, tallies: list[_Tally], count: int, newest: ToolCall) -> FoundLoop:
    key = b"" if kind is LoopKind.NO_PROGRESS else min(one.call.shown for one in tallies)
    tools = sorted({one.call.tool for one in tallies})[:_IN_TURN]
    return FoundLoop(
        str(kind),
        blake2b(str(kind == LoopKind.NO_PROGRESS).encode() + key, digest_size=8).digest(),
        tuple(tools),
        count,
        newest.at_ns,
    )


@lru_cache(maxsize=4096)
def _is_patient(tool: str, patterns: tuple[str, ...]) -> bool:
    return is_wanted(patterns, tool.lower())
