"""Foreign text made fit for people: control characters stripped, secrets scrubbed, then cut.

Always in this order: strip first, so that an invisible character cannot hide a secret; cut last, so that no
cut leaves a part of a secret that no pattern recognises. Text of senders was scanned when it was received
(`readers.redaction`). This is the second line of defence, by the same scanner: for text that people type, for
our own errors, and for older rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

from spanpost.text.secrets import REDACTED as REDACTED
from spanpost.text.secrets import Scanner, unhashed
from spanpost.text.secrets import is_redacted as is_redacted

ELLIPSIS = "…"
#: Characters of a text that are read. No sink shows a tenth of it.
MOST = 65_536
#: Characters of a secret, at most (a private key is longer, but its first line is recognised).
LONGEST = 1_024
#: Combining marks on one letter; more is "zalgo", which paints over the lines above and below.
MARKS = 3

#: Terminal sequences (ECMA-48 control sequences, operating system commands): dropped whole.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]|\x1b\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)")
_ZWJ = "\u200d"
#: Most texts have only these (ASCII, Latin, Hangul syllables, kana, Han), and lose nothing.
_ORDINARY = re.compile("[\n -~\xa1-\xac\xae-\u024f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]*+")
#: Letters and signs without a glyph that no other rule finds: Hangul fillers, the empty Braille pattern.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_SCANNER = Scanner()


def scrub(text: str) -> str:
    """Replace secrets by their kind, also where a length and a hash were. Safe to repeat."""
    return unhashed(_SCANNER.scan(text))


def strip(text: str) -> str:
    """Drop characters that readers cannot see and a terminal or a chat might obey.

    Control characters (line feeds stay) and terminal sequences, bidirectional and zero-width characters,
    tags, more than three marks on a letter. A joiner stays between two emoji. Letters without a glyph
    become blanks, lone surrogates U+FFFD. Safe to repeat.
    """
    text = text[:MOST]
    if _ORDINARY.fullmatch(text) is not None:
        return text
    if "\x1b" in text or "\x9b" in text:
        text = _ESCAPES.sub("", text)
    return "".join(_kept(text.replace("\r\n", "\n")))


def _kept(text: str) -> Iterator[str]:
    marks = 0
    before = ""
    last = len(text) - 1
    for i, ch in enumerate(text):
        if " " <= ch < "\x7f":
            marks = 0
        elif ch in "\n\r\u2028\u2029\x85":
            ch, marks = "\n", 0
        elif ch == "\t" or ch in _BLANK:
            ch, marks = " ", 0
        else:
            category = unicodedata.category(ch)
            if category in ("Mn", "Me"):
                marks += 1
                if marks > MARKS or not before or before == "\n" or "\U000e0100" <= ch <= "\U000e01ef":
                    continue
            elif ch == _ZWJ:
                if i == last or not _is_emoji(before) or not _is_emoji(text[i + 1]):
                    continue
            elif category == "Cs":
                ch, marks = "\ufffd", 0
            elif category in ("Cc", "Cf") or (category == "Cn" and _is_ignorable(ch)):
                continue
            else:
                marks = 0
        before = ch
        yield ch


def _is_ignorable(ch: str) -> bool:
    """Tell whether a code point is never drawn (Default_Ignorable_Code_Point)."""
    return ch == "\u2065" or "\ufff0" <= ch <= "\ufff8" or "\U000e0000" <= ch <= "\U000e0fff"


def _is_emoji(ch: str) -> bool:
    return ch != "" and (ch == "\ufe0f" or unicodedata.category(ch) == "So" or "\U0001f3fb" <= ch <= "\U0001f3ff")


def cut(text: str, limit: int) -> str:
    """Cut to at most `limit` code points, between visible characters, and end with an ellipsis."""
    if len(text) <= limit:
        return text
    if limit <= 0:
        return ""
    end = limit - 1
    # A cluster longer than this is no character but an attack.
    for back in range(min(end, 32)):
        if not _joins(text, end - back):
            end -= back
            break
    return text[:end].rstrip() + ELLIPSIS


def _joins(text: str, i: int) -> bool:
    """Tell whether the code point at i continues the one before it (UAX 29, approximated without tables)."""
    before, ch = text[i - 1 : i], text[i]
    if not before:
        return False
    if (
        ch == _ZWJ
        or before == _ZWJ
        or "\U0001f3fb" <= ch <= "\U0001f3ff"
        or unicodedata.category(ch) in ("Mn", "Me", "Mc")
    ):
        return True
    if _is_flag(ch) and _is_flag(before):
        run = 0
        while run < i and _is_flag(text[i - 1 - run]) and run < 32:
            run += 1
        return run % 2 == 1
    # Hangul syllables of vowels and finals
    return "\u1160" <= ch <= "\u11ff" and ("\u1100" <= before <= "\u11ff" or "\uac00" <= before <= "\ud7a3")


def _is_flag(ch: str) -> bool:
    return "\U0001f1e6" <= ch <= "\U0001f1ff"


def line(text: str, limit: int) -> str:
    """Return one line that can be shown: stripped, scrubbed, white space folded, cut."""
    # Only the visible part of a long text is read, plus the length of a secret at its end.
    read = limit + LONGEST
    whole = " ".join(scrub(strip(text[:read])).split())
    if len(text) > read and len(whole) <= limit + LONGEST // 2:
        whole = " ".join(scrub(strip(text)).split())
    return cut(whole, limit)


def paragraph(text: str, limit: int, *, keep: str = "head") -> str:
    """Return lines that can be shown. `keep="tail"` keeps the end, for logs."""
    whole = scrub(strip(text[-MOST:] if keep == "tail" else text)).strip("\n")
    if keep != "tail" or len(whole) <= limit:
        return cut(whole, limit)
    start = len(whole) - limit + 1
    while start < len(whole) and _joins(whole, start):
        start += 1
    return ELLIPSIS + whole[start:]


def link(url: str, limit: int = 2000) -> str | None:
    """Return an address that a message may link to, else None.

    It has http or https, a host, no user, and nothing to redact.
    """
    if len(url) > limit or url != strip(url) or scrub(url) != url or any(c in url for c in " \n<>|\"'`\\"):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return None
    return url
