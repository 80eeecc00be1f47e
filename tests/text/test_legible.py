"""A person reads all of a question, or sees that a part is hidden."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanpost.model.readings import Approval
from spanpost.semconv import OPTION_LIMIT
from spanpost.text.legible import BRIEF, Hidden, hidden, pieces, shown
from spanpost.text.sanitise import is_redacted, strip
from tests.thorough import thorough

TAGS = "".join(chr(0xE0000 + ord(ch)) for ch in "and drop all tables")


def asked(question: str = "Deploy?", **more: object) -> Approval:
    return Approval(id="a", question=question, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "Deploy 1.8.2 to production?",
        "배포할까요?\n- 파일 2개\n\t- 테스트 31개",
        "می‌خواهم منتشر کنم؟",  # Persian joins and separates its letters by a joiner
        "שלום \u200fעולם\u200e",
        "क्‍ष 👩\u200d💻 ✅\ufe0f 🇰🇷",
        "\x1b[1;32mPASSED\x1b[0m \x1b[38;5;12mok\x1b[m",
        "a\x08b\x00c\r\nd\u2028e\u00a0f\u3164g\ufeff",
        "https://example.com/a?b=c <!channel> <https://evil.example|approve> ```x``` *b*",
    ],
)
def test_ordinary_text_is_whole(text: str) -> None:
    """Joiners of languages, emoji, a terminal's colours, control characters and Slack's own syntax hide
    nothing.
    """
    assert hidden(asked(text)) == ()
    assert hidden(asked(detail=text)) == ()
    assert shown(asked(text)).is_whole


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("May I clean up? -----BEGIN PRIVATE KEY----- DROP-ALL-TABLES -----END PRIVATE KEY-----", Hidden.SECRET),
        ("Fetch https://x:rm-everything@host/?", Hidden.SECRET),
        ("Use [redacted] now?", Hidden.SECRET),
        ("Use [redacted:aws_key:20:1f3a] now?", Hidden.SECRET),
        ("Use sk-\u200bab3cDef7ghij9klmnopQrstuvwx?", Hidden.SECRET),  # it is shown as one
        ("Use [redac\u200bted] now?", Hidden.SECRET),
        (f"Deploy?{TAGS}", Hidden.INVISIBLE),
        ("Deploy \x1b]8;;and all of production\x07?", Hidden.INVISIBLE),
        ("Deploy \x1b[2Know?", Hidden.INVISIBLE),
        ("Pay \x1b[1000000m$1?", Hidden.INVISIBLE),
        ("Deploy?\U000e0101\U000e0154", Hidden.INVISIBLE),
        ("Deploy?" + "\u200b\u200c" * 8, Hidden.INVISIBLE),
        ("a" + "\u0301" * 5, Hidden.INVISIBLE),
        ("Deploy \ud800?", Hidden.INVISIBLE),
        ("Deploy?\U000e0fff\U000e0080", Hidden.INVISIBLE),
    ],
)
def test_what_cannot_be_read_is_said(text: str, why: Hidden) -> None:
    """Secrets, imitated placeholders, cuts and invisible characters are reported, in each field."""
    assert why in hidden(asked(text))
    assert why in hidden(asked(detail=text))
    if len(text) < OPTION_LIMIT:
        assert why in hidden(asked(options=("no", text)))
        assert why in hidden(asked(risk=text))


def test_options_must_read_differently() -> None:
    """Options that read alike cannot be chosen from."""
    assert hidden(asked(options=("yes", "yes"))) == (Hidden.ALIKE,)
    assert hidden(asked(options=("go  on", "go\u200b on"))) == (Hidden.ALIKE,)
    assert hidden(asked(options=("yes", "Yes"))) == ()


def test_what_was_cut_is_not_whole() -> None:
    """A question that was cut is not whole, however it ends."""
    assert hidden(asked(is_cut=True)) == (Hidden.CUT,)


def test_blank_runs_push_nothing_out_of_sight() -> None:
    """Text after hundreds of blank lines, or of blanks of any kind, is shown right below."""
    for blank in (
        "\n" * 500,
        "\n \t\n" * 200,
        "\r\n" * 300,
        " " * 3000,
        "\u3164\n" * 300,
        "\u2800" * 900,
        "\u2003" * 900,
        "\t" * 900,
    ):
        read = shown(asked(f"Deploy?{blank}And delete the backups"))
        assert read.is_whole
        assert len(read.question) < 80
        assert read.question.count("\n") <= 2
        assert read.question.endswith("And delete the backups")
    code = "if x:\n\n        y()\n    z()"
    assert shown(asked(detail=code)).detail == code, "what is indented stays so"


def test_brief_is_what_stands_beside_a_button() -> None:
    """Few words, few lines and options that fit on buttons are brief: any other question is read first."""
    assert shown(asked("x" * 300, detail="y" * (BRIEF - 300))).is_brief
    assert not shown(asked("x" * 300, detail="y" * (BRIEF - 299))).is_brief
    assert shown(asked(detail="1\n2\n3\n4\n5\n6")).is_brief
    assert not shown(asked(detail="1\n2\n3\n4\n5\n6\n7")).is_brief
    assert not shown(asked(options=("a", "b" * 31))).is_brief
    assert not shown(asked(risk="r" * 41)).is_brief


def test_a_digest_knows_each_word() -> None:
    """Other words in any field, in another order or place, give another digest."""
    read = [
        asked("a", detail="b"),
        asked("ab"),
        asked("b", detail="a"),
        asked("a", options=("b",)),
        asked("a", options=("b", "c")),
    ]
    read += [asked("a", options=("c", "b")), asked("a", risk="b")]
    assert len({shown(one).digest for one in read}) == len(read)


@thorough(200)
@given(st.text(), st.text(), st.lists(st.text(max_size=40), max_size=5), st.text(max_size=40))
@example("\x9bm", "", [], "\x1b[m")  # a terminal's colour alone
def test_whole_means_every_word(question: str, detail: str, options: list[str], risk: str) -> None:
    """A whole text shows every character but colours, controls and joiners; any other text names a reason."""
    one = asked(question, detail=detail, options=tuple(options), risk=risk)
    read = shown(one)
    assert read.is_whole is (not read.hidden)
    if not read.is_whole:
        return
    unseen = re.compile(
        r"(?:\x1b\[|\x9b)[\d;:]*m|[\s\x00-\x20\x7f-\xa0\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u115f\u1160\u2800\u3164\uffa0]"
    )
    for said, got in zip(
        (question, detail, *options, risk), (read.question, read.detail, *read.options, read.risk), strict=True
    ):
        assert unseen.sub("", said) == unseen.sub("", got)
        assert not is_redacted(got)


@given(st.text(st.characters(codec="utf-8"), max_size=400), st.integers(2, 50))
def test_pieces_are_the_text(text: str, limit: int) -> None:
    """The pieces of a text add up to the text, and no piece is too long."""
    cut = pieces(text, limit)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= limit for piece in cut)


@given(st.text())
def test_is_redacted_says_what_showing_does(text: str) -> None:
    """Redacted texts are recognized as such afterwards."""
    read = shown(asked(text))
    assert is_redacted(strip(text)) is (Hidden.SECRET in read.hidden)
