"""A question as a person reads it, and whether that is the whole question.

A question is *whole* if every word can be read: nothing looks like a secret, nothing was cut when it was
recorded, stripping dropped only blanks, colours and joiners, and no two options read alike. A question that
is not whole can be denied, not approved. A whole question that is also *brief* can be read beside a button;
a longer one is read first.
"""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from spanpost.text.sanitise import is_redacted, scrub, strip

#: Characters. Slack folds attachments above 700 characters or 5 line breaks
#: (docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments); the rest is for the other
#: parts of the message.
BRIEF: Final = 600
BRIEF_LINES: Final = 5
#: Characters that Slack shows of a button's label; of a risk it shows one line of small print.
BRIEF_OPTION: Final = 30
BRIEF_RISK: Final = 40
BRIEF_TOOL: Final = 60
#: More blank lines than this only push text out of sight.
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n){2,}")
_FIRST_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_BLANKS = re.compile(r"([^\S\n]{40})[^\S\n]+")

#: Terminal colours: dropped, because they say nothing.
_COLOURS = re.compile(r"(?:\x1b\[|\x9b)\d{0,3}(?:[;:]\d{0,3}){0,8}m")
_ESCAPES = re.compile(r"\x1b[\[\]]|\x9b[0-?]{0,64}[ -/]{0,16}[@-~]")
_JOINERS = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
#: Characters that may be dropped or become a blank without losing a word.
_UNSAID = re.compile(rf"[\s\x00-\x20\x7f-\xa0\u115f\u1160\u2800\u3164\uffa0{_JOINERS}]+")
#: No language has so many joiners in a row: they would spell something.
_SPELLED = re.compile(rf"[{_JOINERS}]{{5}}")


class Hidden(StrEnum):
    """Why part of a question is hidden. Public: the API's ``hidden``."""

    #: Part of it looks like a secret, and is redacted.
    SECRET = "secret"
    #: It is longer than what is recorded.
    CUT = "cut"
    #: It has invisible characters that may say something.
    INVISIBLE = "invisible"
    #: Two options read alike.
    ALIKE = "alike"
    #: Only in Slack: the settings keep tool arguments out (`slack.content`).
    ARGUMENTS = "arguments"
    #: Only in Slack: a rule of `redact` hides it, of the sink or of the route.
    PATTERN = "pattern"
    #: Only in Slack: it is longer than a dialogue.
    LONG = "long"

    @property
    def is_here_alone(self) -> bool:
        """True if it can be read elsewhere: on the board, in a terminal, through the API."""
        return self in (Hidden.ARGUMENTS, Hidden.PATTERN, Hidden.LONG)


class Words(Protocol):
    """**Protocol:** the words of a question: an `Approval`, or its row."""

    @property
    def question(self) -> str: ...

    @property
    def detail(self) -> str: ...

    @property
    def options(self) -> tuple[str, ...]: ...

    @property
    def risk(self) -> str: ...

    @property
    def tool(self) -> str: ...

    @property
    def is_cut(self) -> bool: ...


class ShownText(msgspec.Struct, frozen=True, kw_only=True):
    """A question as a person reads it. All of it is untrusted text, fit to be shown."""

    question: str = ""
    detail: str = ""
    options: tuple[str, ...] = ()
    risk: str = ""
    tool: str = ""
    #: Why part of it is hidden; empty if it is whole.
    hidden: tuple[Hidden, ...] = ()

    @property
    def is_whole(self) -> bool:
        """True if it is the whole question."""
        return not self.hidden

    @property
    def is_brief(self) -> bool:
        """True if it can be read beside a button."""
        texts = (self.question, self.detail)
        return (
            sum(map(len, texts)) <= BRIEF
            and sum(text.count("\n") for text in texts) <= BRIEF_LINES
            and len(self.risk) <= BRIEF_RISK
            and len(self.tool) <= BRIEF_TOOL
            and all(len(option) <= BRIEF_OPTION for option in self.options)
        )

    @property
    def digest(self) -> str:
        """A hash of the shown text. An open dialogue carries it, so that a changed question is noticed."""
        return blake2b(msgspec.json.encode(self), digest_size=16).hexdigest()


def shown(asked: Words) -> ShownText:
    """Return a question as a person reads it."""
    return ShownText(
        question=legible(asked.question).lstrip(),
        detail=legible(asked.detail),
        options=tuple(_line(option) for option in asked.options),
        risk=_line(asked.risk),
        tool=_line(asked.tool),
        hidden=hidden(asked),
    )


def hidden(asked: Words) -> tuple[Hidden, ...]:
    """Return why part of a question is hidden; empty if it is whole."""
    texts = (asked.question, asked.detail, *asked.options, asked.risk, asked.tool)
    read = [strip(text) for text in texts]
    options = [_line(option) for option in asked.options]
    found = {
        Hidden.SECRET: any(is_redacted(text) or scrub(text) != text for text in read),
        Hidden.CUT: asked.is_cut,
        Hidden.INVISIBLE: any(_loses(text, kept) for text, kept in zip(texts, read, strict=True)),
        Hidden.ALIKE: len(set(options)) < len(options),
    }
    return tuple(why for why, is_so in found.items() if is_so)


def legible(text: str) -> str:
    """Return a text of several lines as it is shown: stripped, scrubbed, without long runs of white space."""
    return _BLANKS.sub(r"\1", _BLANK_LINES.sub("\n\n", _FIRST_LINES.sub("", scrub(strip(text))))).rstrip()


def pieces(text: str, limit: int) -> list[str]:
    """Split a text into pieces of at most `limit` characters, near the end of a line or a word."""
    found = []
    while len(text) > limit:
        at = max(text.rfind("\n", limit // 2, limit), 0) or max(text.rfind(" ", limit // 2, limit), 0) or limit - 1
        found.append(text[: at + 1])
        text = text[at + 1 :]
    return [*found, text] if text else found


def _line(text: str) -> str:
    return " ".join(scrub(strip(text)).split())


def _loses(text: str, read: str) -> bool:
    """Tell whether stripping a text drops something that means something, if not to a person."""
    text = _COLOURS.sub("", text)
    return _ESCAPES.search(text) is not None or _SPELLED.search(text) is not None or _said(text) != _said(read)


def _said(text: str) -> str:
    return _UNSAID.sub("", text)
