"""Patterns of rules: which are accepted, and how long they may search."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.text.patterns import MOST_WAYS, Effort, bounded, fault, measured
from spanpost.text.rules import RedactionAction, RedactionRule, RuleSet
from spanpost.text.secrets import Scanner

SLOW = (
    "a?" * 25 + "aaab",
    "(?:a|a)" * 16 + "aaab",
    "(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)aaab",
    "(?:a{1,20}|a{1,20}(?:a?|b))a{1,9}aaab",
    "[a-z]{1,20}[a-z]{1,20}aaab",
    "(?:a|(?:a|(?:a|(?:a|b)a{0,9})a{0,9})a{0,9})aaab",
)


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_with_too_many_ways_is_refused(pattern):
    """Optional parts, choices and counts multiply: what would try millions of ways at one place is no rule."""
    assert "too many ways" in fault(pattern)


@pytest.mark.parametrize(
    ("pattern", "ways", "longest"),
    [
        ("acme_[A-Za-z0-9]{32}", 1, 37),
        (r"[a-z.]{1,40}@example\.com", 40, 52),
        ("abc(?:a|b(?:c|dd))x", 3, 7),
        ("(?i)abc?d?|abcde{0,9}", 14, 13),
    ],
)
def test_ways_and_length_are_counted(pattern, ways, longest):
    """Ways of a sequence multiply, ways of a choice add up; the longest match is the longest choice."""
    assert measured(pattern) == (ways, longest)


ITEMS = st.sampled_from(
    ["a", "b", "[ab]", "[^a]", ".", r"\.", "a{0,3}", "[ab]{2,5}", "b?", "(?:a|bb)", "(?:.|ab{1,2})"]
)
PATTERNS = st.builds(
    lambda before, after, flag: flag + "".join(before) + "abc" + "".join(after),
    st.lists(ITEMS, max_size=4),
    st.lists(ITEMS, max_size=4),
    st.sampled_from(["", "(?i)"]),
).filter(lambda pattern: not fault(pattern))


@given(
    PATTERNS,
    st.lists(st.sampled_from(["a", "b", "abc", "ABC", ".", "x" * 30, "\n", "aabcc"]), max_size=30).map("".join),
)
def test_a_search_around_the_plain_characters_finds_every_match(pattern, text):
    """Only the neighbourhood of the plain characters is searched, and the matches are those of the whole text."""
    found = list(bounded(pattern).spans(text, Effort(10**9)))
    assert found == [match.span() for match in re.finditer(pattern, text) if match.group()]
    assert bool(found) <= bounded(pattern).may_match(text, text.lower())


@pytest.mark.parametrize("count", [1, 200])
def test_a_text_made_to_be_slow_is_hidden_whole(count):
    """As many rules as are accepted, each with as many ways, on a text of their beginnings: the text is gone."""
    pattern = f"[a-z=]{{0,{MOST_WAYS - 1}}}key=[0-9]"
    assert fault(pattern) == ""
    rules = RuleSet([RedactionRule(action=RedactionAction.HASH, pattern=pattern)] * count)
    scanner = Scanner(b"k" * 32, rules.texts(range(count)))
    text = "key=" * 16_384
    begin = process_time()
    assert scanner.scan(text) == "[redacted:unsearched]"
    assert process_time() - begin < 2.0  # it would take minutes
    assert scanner.scan("[redacted:unsearched]") == "[redacted:unsearched]"


def test_a_text_that_is_hidden_whole_is_no_part_of_what_is_kept():
    """`keep` cannot be searched in time either: it keeps nothing."""
    rules = RuleSet(
        [
            RedactionRule(action=RedactionAction.KEEP, pattern="[a-z=]{0,199}key=[0-9]"),
            RedactionRule(action=RedactionAction.REDACT, pattern="key=7"),
        ]
    )
    found = Scanner(b"", rules.texts((0, 1))).scan("key=" * 16_384 + "7")
    assert found.endswith("[redacted:rule]")
