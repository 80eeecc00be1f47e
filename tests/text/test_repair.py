"""Values that no store accepts are repaired and flagged; clean ones cost nothing."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.observations import Repair
from spanpost.text.repair import DROPPED, MAX_ATTRIBUTES, MAX_VALUE, mend, mend_text
from tests.thorough import thorough


class Rude:
    """An object whose every method fails."""

    def __repr__(self) -> str:
        raise RuntimeError("do not ask")

    __str__ = __repr__

    def __len__(self) -> int:
        raise RuntimeError("do not count")


class Word(enum.StrEnum):
    LEFT = "left"


class Number(enum.IntEnum):
    ONE = 1


def test_clean_attributes_are_the_very_same_dict() -> None:
    """Clean attributes are not copied and not flagged."""
    clean = {"a": "text", "b": 1, "c": 1.5, "d": True, "e": None, "f": ["stop"], "ö": "grüße"}
    ascii_keys = {k: v for k, v in clean.items() if k.isascii()}
    assert mend(ascii_keys)[0] is ascii_keys
    assert mend(clean) == (clean, 0)


@pytest.mark.proves("one-bad-span", "nul", "nan", "big-integers")
def test_each_repair_has_its_flag() -> None:
    """NUL, surrogates, NaN, huge numbers, bytes and foreign objects become text that describes them."""
    cases: list[tuple[Any, Any, int]] = [
        ("a\0b", "a␀b", Repair.TEXT),
        ("a\ud800b", "a\ufffdb", Repair.TEXT),
        (math.nan, "NaN", Repair.NUMBER),
        (-math.inf, "-Infinity", Repair.NUMBER),
        (2**63, str(2**63), Repair.NUMBER),
        (b"hi", "base64:aGk=", Repair.TEXT),
        (Word.LEFT, "left", Repair.TEXT),
        (Number.ONE, 1, Repair.TEXT),
        ((1, "x"), [1, "x"], 0),
        ({"b", "a"}, ["a", "b"], Repair.TEXT),
        (OrderedDict(k=[1]), {"k": [1]}, Repair.TEXT),
        (Rude(), f"<{Rude.__module__}.Rude>", Repair.TEXT),
        ([Rude()], [f"<{Rude.__module__}.Rude>"], Repair.TEXT),
    ]
    for value, kept, repairs in cases:
        assert mend({"k": value}) == ({"k": kept}, repairs)


@pytest.mark.proves("one-bad-span", "megabytes")
def test_long_values_are_cut_on_a_character_and_stay_distinct() -> None:
    """At most 64 KiB of UTF-8, with length and hash of the whole: two long values with one beginning stay
    two.
    """
    one, repairs = mend_text("é" * 100_000 + "1")
    two, _ = mend_text("é" * 100_000 + "2")
    assert repairs == Repair.TRUNCATED
    assert len(one.encode()) <= MAX_VALUE
    assert one != two
    assert one.startswith("é" * 1000)
    assert "200001 bytes" in one


@pytest.mark.proves("one-bad-span", "crowds")
def test_of_too_many_attributes_flattened_lists_go_first() -> None:
    """The span's kind, at the end of OpenInference's attributes behind hundreds of message parts, is kept."""
    many: dict[str, Any] = {f"llm.input_messages.{i}.message.content": "x" for i in range(300)}
    many["llm.output_messages.0.message.tool_calls.0.tool_call.id"] = "call_1"
    many["openinference.span.kind"] = "LLM"
    kept, repairs = mend(many)
    assert repairs == Repair.TRUNCATED
    assert len(kept) == MAX_ATTRIBUTES
    assert kept["openinference.span.kind"] == "LLM"
    assert kept["llm.output_messages.0.message.tool_calls.0.tool_call.id"] == "call_1"
    assert kept[DROPPED] == len(many) - (MAX_ATTRIBUTES - 1)


@pytest.mark.proves("one-bad-span", "bytes-and-circles")
def test_depth_circles_and_crowds_end() -> None:
    """Nesting beyond 16 becomes JSON text; a cycle ends; any span stays near a mebibyte."""
    deep: Any = "bottom"
    for _ in range(30):
        deep = [deep]
    circle: list[Any] = []
    circle.append(circle)
    kept, repairs = mend(
        {"deep": deep, "circle": circle, "crowd": [["x" * 50_000] * 1000] * 100, "wide": list(range(10**6))}
    )
    assert repairs & Repair.DEPTH
    assert repairs & Repair.TRUNCATED
    inner = kept["deep"]
    for _ in range(15):
        (inner,) = inner
    assert isinstance(inner, str)
    assert "bottom" in inner
    assert len(msgspec.json.encode(kept)) < 2 * 1024 * 1024


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=5) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@pytest.mark.proves("one-bad-span", "bytes-and-circles", "mixed-arrays")
@thorough(200)
@given(st.dictionaries(st.text(st.characters(codec=None)) | st.integers() | st.binary(), anything, max_size=8))
def test_whatever_comes_is_plain_afterwards(attributes: dict[Any, Any]) -> None:
    """The result is strict JSON of valid text without NUL and with 64-bit numbers; repairing it again
    changes nothing.
    """
    kept, repairs = mend(attributes)
    text = msgspec.json.encode(kept).decode()
    assert "\\u0000" not in text
    assert msgspec.json.decode(text) == kept
    assert mend(kept) == (kept, 0)
    assert (repairs == 0) <= (kept.keys() == attributes.keys())
