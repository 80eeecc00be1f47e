"""Hashes of tool calls: equal for equal calls in any writing, and of no use to anyone else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.readings import Failure
from spanpost.readers.call_hashes import LONGEST, CallHash, hash_call
from tests.thorough import IN_CI

KEY = b"k" * 32
ARGUMENTS = {"path": "src/a.py", "lines": [1, 2], "deep": {"b": 1, "a": "é"}}
REVERSED = {"deep": {"a": "é", "b": 1}, "lines": [1, 2], "path": "src/a.py"}


def hashed(tenant: str = "default", key: bytes = KEY, tool: str = "read", **attributes: Any) -> CallHash:
    return hash_call(
        {name.replace("__", "."): value for name, value in attributes.items()},
        None,
        has_failed=False,
        tool=tool,
        tenant=tenant,
        key=key,
    )


WRITINGS = {
    "JSON": {"gen_ai__tool__call__arguments": json.dumps(ARGUMENTS)},
    "JSON in another order": {"gen_ai__tool__call__arguments": json.dumps(REVERSED, indent=2)},
    "JSON with escapes": {"input__value": json.dumps(ARGUMENTS, ensure_ascii=True)},
    "JSON without escapes": {"input__value": json.dumps(ARGUMENTS, ensure_ascii=False)},
    "a map": {"gen_ai__tool__call__arguments": REVERSED},
    "JSON in JSON": {"arguments": json.dumps(json.dumps(ARGUMENTS))},
    "a Python literal": {"gen_ai__tool__call__arguments": repr(ARGUMENTS)},
    "keyword arguments": {"input__value": json.dumps({"args": [], "kwargs": ARGUMENTS})},
    "Traceloop": {
        "traceloop__entity__input": json.dumps({"input_str": repr(REVERSED), "tags": ["x"], "metadata": {"run": 7}})
    },
    "a model's request": {
        "input__value": json.dumps({"name": "read", "args": ARGUMENTS, "id": "call_1", "type": "tool_call"})
    },
    "Vercel": {"ai__toolCall__args": json.dumps(ARGUMENTS, separators=(",", ":"))},
    "smolagents": {"input__value": json.dumps({"args": [], "sanitize_inputs_outputs": True, "kwargs": ARGUMENTS})},
    "with a reason": {"gen_ai__tool__call__arguments": json.dumps({**ARGUMENTS, "explanation": "I look again"})},
    "with an id of the call": {"tool_arguments": json.dumps({"request_id": "r-1", **ARGUMENTS})},
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_equal_arguments_have_equal_hashes_in_any_writing(writing: str) -> None:
    """Dialect, order of keys, encoding and wrappings change nothing."""
    assert hashed(**WRITINGS[writing]).arguments == hashed(**WRITINGS["JSON"]).arguments != b""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "a"}, {"path": "b"}),
        ({"reason": "a"}, {"reason": "b"}),
        ({"name": "a", "parameters": {"x": 1}}, {"name": "b", "parameters": {"x": 1}}),
        ({"args": {"x": 1}, "kwargs": {"y": 1}}, {"args": {"x": 1}, "kwargs": {"y": 2}}),
        ({"x": 1}, {"x": "1"}),
        ([], {}),
        ("a", "b"),
    ],
)
def test_different_arguments_have_different_hashes(one: Any, other: Any) -> None:
    """What is part of a call's meaning is part of its hash; a reason is, when it is all that there is."""
    assert hashed(input__value=json.dumps(one)).arguments != hashed(input__value=json.dumps(other)).arguments


def test_a_hash_is_of_no_use_without_the_key_and_for_no_other_tenant() -> None:
    """Another key, tenant or tool gives another hash of the same arguments."""
    same = {"input__value": "[1]"}
    made = {
        hashed(**same),
        hashed(**same, key=b"other"),
        hashed(**same, tenant="b"),
        hashed(**same, tool="other"),
    }
    assert len(made) == 4
    assert all(len(one.arguments) == 8 for one in made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("done at 2026-11-23T06:01:02Z", "done at 2026-11-23T07:01:02.123Z"),
        ("1 failed in 0.12s", "1 failed in 3.40s"),
        ({"id": "call_1234567", "text": "x"}, {"id": "call_7654321", "text": "x"}),
        ("run 123e4567-e89b-12d3-a456-426614174000", "run 923e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_ids_and_times_in_a_result_say_nothing(one: Any, other: Any) -> None:
    """Two results that differ by an id, a time or a duration are the same."""
    assert hashed(output__value=one) == hashed(output__value=other)


@pytest.mark.parametrize(("one", "other"), [("40 %", "45 %"), ("2 failed", "1 failed"), ("a" * 300, "a" * 301)])
def test_results_that_say_something_else_differ(one: str, other: str) -> None:
    """A count or a share that changes is a changed result."""
    assert hashed(output__value=one).outcome != hashed(output__value=other).outcome


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("pending", True),
        ('{"state": "in_progress"}', True),
        ("done", False),
        ("x " * 600 + "pending", False),
        ("", False),
    ],
)
def test_a_short_result_may_say_not_yet(result: str, expected: bool) -> None:
    """Words for a wait count in a short result only."""
    assert hashed(output__value=result).is_waiting is expected


def test_content_that_was_left_out_is_unknown() -> None:
    """A placeholder is no argument: calls whose content a Collector removed are not taken for equal."""
    assert hashed(input__value="[content not kept: 17 characters]", output__value="") == CallHash(b"", b"")
    assert hashed(unrelated="x") == CallHash(b"", b"")


def test_errors_are_equal_by_their_type_and_otherwise_by_their_words() -> None:
    """A type identifies an error; where there is none, or one that all errors share, the words do, without numbers."""

    def failed(kind: str, words: str) -> bytes:
        failure = Failure(type=kind, message=words)
        return hash_call({}, failure, has_failed=True, tool="t", tenant="x", key=KEY).outcome

    assert failed("KeyError", "'a'") == failed("KeyError", "'b'")
    assert failed("Error", "line 3") == failed("Error", "line 77")
    assert failed("Error", "no such file") != failed("Error", "permission denied")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)


@given(ANYTHING)
def test_anything_can_be_hashed(value: Any) -> None:
    """Whatever attributes hold, a hash comes back, and the same for the same."""
    assert hashed(input__value=value, output__value=value) == hashed(input__value=value, output__value=value)
    text = repr(value)
    assert hashed(input__value=text, output__value=text) == hashed(input__value=text, output__value=text)


@pytest.mark.parametrize(
    "huge",
    [
        "[" * 200_000,
        '{"a":' * 60_000 + "1" + "}" * 60_000,
        "[" * 30_000 + "]" * 30_000,
        "(" * 4000,
        "{'a': " * 500,
        "9" * 60_000,
        '{"a": "' + "x" * 5_000_000 + '"}',
        "call_" * 13_000,
        "1" * 65_000,
        "aaaaaaaa-aaaa-" * 4_600,
    ],
    ids=range(10),
)
def test_huge_and_deep_content_costs_what_its_length_costs(huge: str) -> None:
    """Nesting, length and texts made against the patterns are hashed in time that grows with the length alone."""
    from time import process_time

    def cost(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = process_time()
            hashed(input__value=text, output__value=text)
            best = min(best, process_time() - began)
        return best

    plain = cost("word " * (LONGEST // 5))
    assert cost(huge) < 40 * plain + 0.05 * (len(huge) / LONGEST) * (10 if IN_CI else 3)
