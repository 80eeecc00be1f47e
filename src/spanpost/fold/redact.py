"""Text from agents, made fit for people: secrets scrubbed, tricks stripped, cut where a reader would cut.

Always in this order: strip (so that an invisible character cannot hide a secret from the patterns), scrub, cut (so that a
cut cannot leave the better half of a secret that no pattern knows any more).

Every pattern is linear in time: a fixed prefix, then one character class, possessive or bounded, nothing to back track over.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

REDACTED = "[redacted]"
ELLIPSIS = "…"
#: More of one text is not looked at. No sink shows a tenth of it.
MOST = 65_536
#: Marks that one letter may carry; more is "zalgo", which paints over the lines above and below.
MARKS = 3

#: What terminals obey (ECMA-48 control sequences, operating system commands): dropped whole, not only its first character.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]|\x1b\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)")
_ZWJ = "\u200d"
_KEYED = (
    r"(?:password|passwd|passphrase|secret|api[_-]?key|apikey|access[_-]?key|auth[_-]?token|access[_-]?token|client[_-]?secret)"
)

#: (pattern, what replaces it). Prefixes as their vendors document them.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key, also one whose end was cut off.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----END))*+(?:-----END [A-Z0-9 ]{0,40}-----)?"
        ),
        REDACTED,
    ),
    # Slack: tokens (xoxb-, xoxe.xoxp-, xapp-) and webhooks
    (re.compile(r"\b(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9-]{6,}+"), REDACTED),
    (re.compile(r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[A-Za-z0-9/_-]++"), REDACTED),
    # OpenAI, Anthropic, Stripe and kin: sk-…, sk_live_…
    (re.compile(r"\b(?:sk-|[srp]k_(?:live|test)_)[A-Za-z0-9_-]{16,}+"), REDACTED),
    # GitHub, GitLab, Hugging Face, npm, PyPI, Google, SendGrid
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-)[A-Za-z0-9_-]{10,}+"), REDACTED),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}+"), REDACTED),
    (re.compile(r"\bSG\.[A-Za-z0-9_-]{16,}+(?:\.[A-Za-z0-9_-]*+)?"), REDACTED),
    # AWS key ids
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}+"), REDACTED),
    # JSON Web Tokens, also without their signature
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?"), REDACTED),
    # Authorization headers
    (re.compile(r"(?i)\b(bearer|basic)\s{1,4}[A-Za-z0-9._~+/=-]{8,}+"), rf"\1 {REDACTED}"),
    # https://user:password@host
    (re.compile(r"(?<=://)[^\s/?#]{1,512}@"), f"{REDACTED}@"),
    # password=…, "api_key": "…": the name tells
    (re.compile(rf"(?i)({_KEYED}[\"']?\s{{0,4}}[=:]\s{{0,4}}[\"'])(?!\[redacted)[^\"'\s]{{4,}}+"), rf"\1{REDACTED}"),
    (re.compile(rf"(?i)({_KEYED}=)(?!\[redacted)[^\s\"'&,;]{{4,}}+"), rf"\1{REDACTED}"),
)
#: No pattern can match a text without one of these: most texts are let through after one look.
_HINT = re.compile(
    r"(?i)-----BEGIN|xox|xapp-|hooks\.slack|[srp]k[-_]|gh[pousr]_|github_pat|glpat|hf_|npm_|pypi-|AIza|SG\."
    r"|AKIA|ASIA|ABIA|ACCA|eyJ|bearer|basic|://|passw|passphrase|secret|key|token"
)


def scrub(text: str) -> str:
    """Replace what looks like a secret. Safe to repeat."""
    if _HINT.search(text) is None:
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def strip(text: str) -> str:
    """Drop what a reader cannot see and a terminal or a chat might obey.

    Control characters (line feeds stay) and terminal sequences, bidirectional and zero-width characters, tags, more than
    three marks on a letter. A joiner stays between two emoji. Lone surrogates become U+FFFD. Safe to repeat.
    """
    text = text[:MOST]
    if text.isascii() and text.isprintable():
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
        elif ch == "\t":
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
            elif category in ("Cc", "Cf"):
                continue
            else:
                marks = 0
        before = ch
        yield ch


def _is_emoji(ch: str) -> bool:
    return ch != "" and (ch == "\ufe0f" or unicodedata.category(ch) == "So" or "\U0001f3fb" <= ch <= "\U0001f3ff")


def cut(text: str, limit: int) -> str:
    """Cut to at most `limit` code points, between two characters as a reader sees them, and say so by an ellipsis."""
    if len(text) <= limit:
        return text
    if limit <= 0:
        return ""
    end = limit - 1
    # A border further back than this is no character but an attack.
    for back in range(min(end, 32)):
        if not _joins(text, end - back):
            end -= back
            break
    return text[:end].rstrip() + ELLIPSIS


def _joins(text: str, i: int) -> bool:
    """Say whether what stands at i belongs to what stands before it (an approximation of UAX 29, without its tables)."""
    before, ch = text[i - 1 : i], text[i]
    if not before:
        return False
    if ch == _ZWJ or before == _ZWJ or "\U0001f3fb" <= ch <= "\U0001f3ff" or unicodedata.category(ch) in ("Mn", "Me", "Mc"):
        return True
    if _is_flag(ch) and _is_flag(before):
        run = 0
        while run < i and _is_flag(text[i - 1 - run]) and run < 32:
            run += 1
        return run % 2 == 1
    # Hangul syllables built of vowels and finals
    return "\u1160" <= ch <= "\u11ff" and ("\u1100" <= before <= "\u11ff" or "\uac00" <= before <= "\ud7a3")


def _is_flag(ch: str) -> bool:
    return "\U0001f1e6" <= ch <= "\U0001f1ff"


def line(text: str, limit: int) -> str:
    """Return one line fit to be shown: stripped, scrubbed, white space folded, cut."""
    return cut(" ".join(scrub(strip(text)).split()), limit)


def paragraph(text: str, limit: int, *, keep: str = "head") -> str:
    """Return several lines fit to be shown. `keep="tail"` keeps the end, as a log wants it."""
    whole = scrub(strip(text[-MOST:] if keep == "tail" else text)).strip("\n")
    if keep != "tail" or len(whole) <= limit:
        return cut(whole, limit)
    start = len(whole) - limit + 1
    while start < len(whole) and _joins(whole, start):
        start += 1
    return ELLIPSIS + whole[start:]


def link(url: str, limit: int = 2000) -> str | None:
    """Return the address when it may be followed from a message: http or https, a host, no user, nothing to redact."""
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
