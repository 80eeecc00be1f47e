"""Forms of MCP servers as questions that a button or a few words answer: pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.thorough import thorough

from spanpost.agent.adapters.form import DECLINE, Form, read_form

OK = {"type": "boolean"}
NIGHTS = {"type": "integer", "minimum": 1, "maximum": 14}
ROOM = {"type": "string", "enum": ["garden", "street"]}


def form(required: list[str] | None = None, **properties: Any) -> Form:
    return read_form(
        {"type": "object", "properties": properties, "required": list(properties) if required is None else required}
    )


@pytest.mark.parametrize(
    ("asked", "options", "decision", "comment", "content"),
    [
        (form(), [], "approve", "ship it", {}),
        (form(ok=OK), [], "approve", "ship it", {"ok": True}),
        (form([], ok={**OK, "default": False}, why={"type": "string"}), [], "approve", "", {"ok": True}),
        (form([], ok=OK, why={"type": "string"}), [], "approve", "why: it rains\nok: no",
         {"ok": False, "why": "it rains"}),
        (form(room=ROOM), ["garden", "street", DECLINE], "street", "", {"room": "street"}),
        (
            form(room={"type": "string", "oneOf": [{"const": "g", "title": "Garden view"},
                                                   {"const": "s", "title": "Street"}]}),
            ["Garden view", "Street", DECLINE], "Garden view", "", {"room": "g"},
        ),
        (form(room={**ROOM, "enumNames": ["Garden", "Street"]}), ["Garden", "Street", DECLINE], "Street", "",
         {"room": "street"}),
        (form(room={"enum": ["allow", "deny"]}), ["allow", "deny", DECLINE], "deny", "", {"room": "deny"}),
        (form(room={"enum": ["decline", "x"]}), [], "approve", "Decline", {"room": "decline"}),
        (form(room={"enum": [str(n) for n in range(20)]}), [], "approve", "7", {"room": "7"}),
        (form(nights=NIGHTS), [], "approve", "3", {"nights": 3}),
        (form(["nights"], nights=NIGHTS, ok={**OK, "default": True}), [], "approve", " 3\n", {"nights": 3, "ok": True}),
        (form(nights=NIGHTS, city={"type": "string"}), [], "approve", "Nights: 3\ncity: Oslo",
         {"nights": 3, "city": "Oslo"}),
        (form(text={"type": "string"}), [], "approve", "see http://a.b\nand c: d",
         {"text": "see http://a.b\nand c: d"}),
        (
            form(rooms={"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}}), [], "approve", "a, C",
            {"rooms": ["a", "c"]},
        ),
    ],
)  # fmt: skip
def test_a_form_is_filled_in(
    asked: Form, options: list[str], decision: str, comment: str, content: dict[str, Any]
) -> None:
    """A single choice becomes buttons, a single boolean becomes yes and no, and other fields are read from
    the comment.
    """
    assert asked.options == options
    assert asked.filled(decision, comment) == content


@pytest.mark.parametrize(
    ("asked", "comment", "why"),
    [
        (form(nights=NIGHTS), "", "nights: missing in the comment"),
        (form(nights=NIGHTS), "three", "nights: 'three' is not a whole number"),
        (form(nights=NIGHTS), "15", "nights: at most 14, not 15"),
        (form(nights=NIGHTS), "9" * 400, "nights: '9+' is not a whole number"),
        (
            form(nights={"type": "integer", "maximum": 10**400, "minimum": True}),
            "x",
            "nights: 'x' is not a whole number",
        ),
        (form(price={"type": "number"}), "nan", "price: 'nan' is not a number"),
        (form(name={"type": "string", "minLength": 3}), "ab", "name: at least 3 characters, not 2"),
        (form(a=OK, b=OK), "a: yes", "b: missing in the comment"),
        (form(a=OK, b=OK), "a: maybe\nb: no", "a: 'maybe' is neither yes nor no"),
        (form(room=ROOM, nights=NIGHTS), "room: attic\nnights: 1", "room: 'attic' is none of garden, street"),
    ],
)
def test_an_answer_that_does_not_fit(asked: Form, comment: str, why: str) -> None:
    """A missing or wrong value is reported with the field's name and the expected form."""
    assert asked.needs_words
    with pytest.raises(ValueError, match=why):
        asked.filled("approve", comment)


def test_a_person_reads_what_is_wanted() -> None:
    """Each field shows its type, its bounds and whether it is optional; the form shows how to answer."""
    asked = form(
        ["nights"],
        nights={**NIGHTS, "description": "how long"},
        room={**ROOM, "default": "street"},
        note={"title": "Note"},
    )
    assert [field.shown for field in asked.fields] == [
        "nights (a whole number, at least 1, at most 14): how long",
        "room (garden, street; street unless you say otherwise)",
        "note (may be left out): Note",
    ]
    assert asked.hint == "To answer, approve with the answer as your comment."


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "enum", "enumNames", "oneOf", "const", "title", "items", "default", "minimum",
                         "minLength"]), inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@thorough(100)
@given(
    properties=st.dictionaries(st.text(max_size=3), ANYTHING, max_size=3) | ANYTHING,
    required=ANYTHING,
    comment=st.text(max_size=30),
)
def test_a_form_that_is_none(properties: Any, required: Any, comment: str) -> None:
    """Any form of a server is answered, or refused with a reason, and its options can be asked."""
    asked = read_form({"properties": properties, "required": required})
    assert asked.hint == "" or asked.hint.startswith("To ")
    assert all(isinstance(field.shown, str) for field in asked.fields)
    options = asked.options
    assert len({option.strip() for option in options}) == len(options) <= 20
    for decision in options[:-1] or ["approve"]:
        try:
            assert isinstance(asked.filled(decision, comment), dict)
        except ValueError as error:
            assert any(str(error).startswith(field.name) for field in asked.fields)  # noqa: PT017
