"""What is a loop, and what is healthy repetition: judged from the newest calls of an agent run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spanpost.tasks.loop_facts import CALL_CAP, Mark, ToolCall, Turn
from spanpost.tasks.loops import IDLE, FoundLoop, LoopRules, judge

RULES = LoopRules()
SECOND = 10**9


def calls(
    text: str, *, tool: str = "tool", failed: str = "", gap: float = 2.0, is_seen: bool = True, length: float = 1.0
) -> list[ToolCall]:
    """Return a call for each character: the character is its arguments, and its result is the same each time.

    Characters of `failed` fail; with `is_seen` false results are not captured.
    """
    found, at = [], SECOND
    for n, letter in enumerate(text):
        arguments = letter.encode() * 8
        shown = arguments if not is_seen else b"r" + arguments[1:]
        start, at = at, at + int(length * SECOND)
        span = n.to_bytes(8, "big")
        found.append(ToolCall(at, span, 3, start, f"{tool}", shown, arguments, 0, letter in failed))
        at += int(gap * SECOND)
    return found


def turns_before(made: Sequence[ToolCall], *, tokens: int = 100) -> list[Turn]:
    """Return a model call before each tool call."""
    return [Turn(one.start_ns - 1, one.span[:4], one.start_ns - SECOND // 2, tokens * n) for n, one in enumerate(made)]


def kind_of(found: FoundLoop | None) -> tuple[str, int] | None:
    return None if found is None else (found.kind, found.count)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaaa", None),
        ("aaaaaa", ("same_call", 6)),
        ("bcdefaaaaaa", ("same_call", 6)),
        ("ababababa", None),
        ("abababababa", ("cycle", 5)),
        ("abcabcabcabcabcabc", ("cycle", 6)),
        ("abbabaababab", ("cycle", 6)),
        ("axayazawaqapaoanamal", None),
        ("aaaaaab", None),
        ("aaabaaacaaad", None),
        ("abcdefgh" + "hbdfacegabhdcefg" * 2 + "hgfedcba", ("no_progress", 41)),
    ],
)
def test_equal_calls_without_anything_new_between_are_a_loop(text: str, expected: tuple[str, int] | None) -> None:
    """From the sixth equal call, or the fifth round in turn; any call that is new begins the count anew."""
    made = calls(text)
    assert kind_of(judge(made, turns_before(made), [], RULES)) == expected


def test_a_window_is_all_that_is_looked_at() -> None:
    """A thousand equal calls are a loop of as many as the window holds."""
    made = calls("a" * 1000)
    assert kind_of(judge(made, turns_before(made)[-CALL_CAP:], [], RULES)) == ("same_call", CALL_CAP)


def test_where_results_are_not_captured_more_calls_are_needed() -> None:
    """The result may have changed each time: six times as many equal calls, twice as many rounds."""
    assert judge(calls("a" * 35, is_seen=False), [], [], RULES) is None
    assert kind_of(judge(calls("a" * 36, is_seen=False), [], [], RULES)) == ("same_call", 36)
    assert judge(calls("ab" * 10, is_seen=False), [], [], RULES) is None
    assert kind_of(judge(calls("ab" * 10 + "a", is_seen=False), [], [], RULES)) == ("cycle", 10)


def test_without_results_calls_in_no_order_are_no_cycle() -> None:
    """A few calls in any order may be moves of a game, whose results are not captured."""
    made = calls("abdacbdbadcbacdbdacbdcabdcbadcab", is_seen=False)
    assert judge(made, turns_before(made), [], RULES) is None


def test_an_answer_that_says_not_yet_is_waited_for() -> None:
    """Thirty equal calls whose result says that it is not ready."""
    made = [one._replace(is_waiting=True) for one in calls("a" * 30)]
    assert judge(made[:29], turns_before(made[:29]), [], RULES) is None
    assert kind_of(judge(made, turns_before(made), [], RULES)) == ("same_call", 30)


def test_the_same_error_counts_whatever_the_arguments() -> None:
    """Six calls that fail alike with the same arguments, or eight with any."""
    same = calls("aaaaaa", failed="a")
    assert kind_of(judge(same, turns_before(same), [], RULES)) == ("same_error", 6)
    other = [one._replace(shown=b"error", has_failed=True) for one in calls("abcdefgh")]
    assert kind_of(judge(other, turns_before(other), [], RULES)) == ("same_error", 8)
    assert judge(other[:7], turns_before(other[:7]), [], RULES) is None


def test_calls_at_once_are_one_round() -> None:
    """Twenty equal calls that overlap are no loop."""
    made = [one._replace(start_ns=SECOND) for one in calls("a" * 20)]
    assert judge(made, [], [], RULES) is None


def test_two_spans_of_one_call_are_one_call() -> None:
    """Where two instrumentations report a call, it is counted once."""
    made = [one._replace(call=n // 2 + 1) for n, one in enumerate(calls("a" * 10, gap=-0.5))]
    assert judge(made, [], [], RULES) is None


def test_repetition_by_a_program_counts_a_quarter() -> None:
    """Where model calls are known, calls without one between were repeated by code: a retry, or a wait."""
    made = calls("a" * 24)
    before = [Turn(made[0].start_ns, b"", made[0].start_ns - 1, 0)]
    after = [Turn(made[0].at_ns + 1, b"", made[0].at_ns, 0)]
    assert judge(made[:17], before + after, [], RULES) is None
    assert kind_of(judge(made, before + after, [], RULES)) == ("same_call", 7)


def test_a_back_off_may_try_twice_as_often() -> None:
    """Attempts that wait longer and longer are a retry, as long as there are not many."""
    made, at = [], SECOND
    for n, one in enumerate(calls("a" * 12, failed="a")):
        made.append(one._replace(start_ns=at, at_ns=at + SECOND))
        at += SECOND + min(2**n, 30) * SECOND
    assert judge(made[:11], [], [], RULES) is None
    assert kind_of(judge(made, [], [], RULES)) == ("same_error", 12)


def test_a_minute_in_which_nothing_ran_is_a_wait() -> None:
    """An agent that looks again every few minutes costs nothing between, and is no loop."""
    made = calls("a" * 20, gap=IDLE / SECOND + 1)
    assert judge(made, turns_before(made), [], RULES) is None


def test_a_report_of_something_new_is_progress_and_the_same_words_again_are_not() -> None:
    """A checkpoint between the calls begins the count anew, unless it says what was said before."""
    made = calls("a" * 9)
    new = [Mark(one.start_ns - 1, bytes([n]) * 8) for n, one in enumerate(made)]
    assert judge(made, turns_before(made), new, RULES) is None
    same = [mark._replace(said=b"same") for mark in new]
    assert kind_of(judge(made, turns_before(made), same, RULES)) == ("same_call", 9)
    last = [*same, Mark(made[-1].at_ns + 1, b"new")]
    assert judge(made, turns_before(made), last, RULES) is None


@pytest.mark.parametrize("tool", ["check_status", "sleep", "browser_click", "NextPage", "BashOutput"])
def test_tools_that_wait_or_step_may_be_called_more_often(tool: str) -> None:
    """Thirty equal calls of a tool that waits by its nature, by its name."""
    made = calls("a" * 30, tool=tool)
    assert judge(made[:29], turns_before(made[:29]), [], RULES) is None
    assert kind_of(judge(made, turns_before(made), [], RULES)) == ("same_call", 30)


def test_a_call_of_which_nothing_is_known_is_progress() -> None:
    """Without arguments and result nothing is concluded from a call that succeeded."""
    made = [one._replace(shown=b"", arguments=b"") for one in calls("a" * 40)]
    assert judge(made, [], [], RULES) is None


def test_no_progress_needs_a_growing_context_where_it_is_known() -> None:
    """Many calls in no pattern are healthy where the context shrinks with each."""
    made = calls("abcdefgh" + "hbdfacegabhdcefg" * 2 + "hgfedcba")
    assert judge(made, turns_before(made, tokens=-1), [], RULES) is None


def test_a_loop_keeps_its_key_as_it_goes_on() -> None:
    """The key of a finding is the same from its first round to its last: it is reported once."""
    made = calls("ab" * 20)
    keys = {found.key for n in range(len(made)) if (found := judge(made[:n], turns_before(made[:n]), [], RULES))}
    assert len(keys) == 1
