"""Secrets known by their place: addresses, headers, command lines, files of a known form.

The group ``v`` of each expression is the secret. All expressions are bounded, or possessive over one class,
so that any text is read in time that grows with its length.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from spanpost.text.names import words
from spanpost.text.values import is_basic, is_nothing, is_random

Found = tuple[int, int, str]


class TextPlace(NamedTuple):
    """A place of secrets. `hints`: without one of them (in lower case) the expression is not tried."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    #: Whether the value is a secret.
    check: Callable[[str], bool] = lambda value: len(value) >= 3 and not is_nothing(value)
    #: Occurrences of hints in a text, at most: a search far behind each of them is expensive.
    most: int = 5_000


def _is_basic(value: str) -> bool:
    return not is_nothing(value) and (is_basic(value) or _is_bearer(value))


def _is_bearer(value: str) -> bool:
    if is_nothing(value) or len(value) < 12:
        return False
    return is_random(value, 12) or (len(value) >= 16 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


#: Text between a command and its option.
_FAR = r"[^\n|;]{0,200}?[\s\",\[]"

PLACES: tuple[TextPlace, ...] = (
    TextPlace(
        "authorization",
        ("bearer",),
        re.compile(r"(?i)\bbearer(?:\s|%20|\+|\\?[\"',:=]|\s*[:=]\s*){1,4}(?P<v>[A-Za-z0-9._~+/=%-]{12,}+)"),
        _is_bearer,
    ),
    TextPlace(
        "authorization",
        ("basic",),
        re.compile(r"(?i)\bbasic(?:[ \t]|%20){1,4}(?P<v>[A-Za-z0-9+/_-]{8,}+={0,2})"),
        _is_basic,
    ),
    TextPlace(
        "authorization",
        ("splunk ", "ssws ", "geniekey ", "apikey ", "bot ", "token ", "key="),
        re.compile(
            r"(?i)\b(?:splunk|ssws|geniekey|apikey|bot|token)[ \t]{1,2}(?:token=)?(?P<v>[A-Za-z0-9._~+/=-]{20,}+)"
        ),
        is_random,
    ),
    # addresses that are secrets as a whole
    TextPlace(
        "webhook-url",
        ("hooks.slack", "webhook", "hooks.zapier", "hook.", "ifttt", "feishu", "larksuite"),
        re.compile(
            r"(?i)(?:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks|"
            r"[a-z0-9.-]{1,60}\.webhook\.office\.com/webhookb2|outlook\.office(?:365)?\.com/webhook|hooks\.zapier\.com/hooks/(?:catch|standard)|"
            r"hook\.(?:[a-z]{2}\d\.)?make\.com|hook\.integromat\.com|maker\.ifttt\.com/(?:trigger/[^/\s]{1,60}/(?:json/)?)?(?:with|use)/?(?:key)?|"
            r"open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook)/(?P<v>[A-Za-z0-9@/_=-]{6,}+)"
        ),
    ),
    TextPlace(
        "signature",
        ("sig=", "signature=", "code=", "key=", "auth=", "session=", "ticket=", "otp=", "s=", "hash=", "sas="),
        re.compile(
            r"(?i)[?&;](?:x-(?:amz|goog)-signature|signature|sig|code|key|auth|session|ticket|otp|hash|sas|s)(?:=|%3d)(?P<v>[^\s\"'<>&#\\\x00]{8,512}+)"
        ),
        lambda value: is_random(re.sub("%[0-9A-Fa-f]{2}", "", value), 10),
    ),
    TextPlace(
        "signature",
        ("signature=", "response=", "credential="),
        re.compile(r"(?i)\b(?:signature|response)=\\?\"?(?P<v>[A-Za-z0-9+/=%]{24,}+)"),
        is_random,
    ),
    # command lines
    TextPlace(
        "password",
        ("curl", "wget", "http"),
        re.compile(
            r"\b(?:curl|wget|https?|xh)\b"
            + _FAR
            + r"(?:-[a-zA-Z]{0,6}u|-a|--user|--proxy-user|--auth)(?:[ \t=]|\",\s{0,4}\"){0,2}\\?[\"']?"
            r"[^\s\"':/]{1,100}:(?P<v>[^\s\"'\\]{1,200}+)"
        ),
        most=200,
    ),
    TextPlace(
        "password",
        (
            "az ",
            "oc login",
            "docker login",
            "zip ",
            *words("mysql mariadb sshpass mongo 7z redis-cli htpasswd ldap xfreerdp helm podman snowsql"),
        ),
        re.compile(
            r"\b(?:(?:mysql\w*|mariadb\w*|sshpass|7z\w?)\b"
            + _FAR
            + r"-p(?![ \t-])[\"']?|(?:sshpass|mongo\w*|docker|podman|helm|az|oc|(?:un)?zip|snowsql)\b"
            + _FAR
            + r"-[pP](?:[ \t=]|\",\s{0,4}\"){1,2}[\"']?|redis-cli\b"
            + _FAR
            + r"-a[ \t]{1,2}[\"']?|ldap\w+\b"
            + _FAR
            + r"-w[ \t]{1,2}[\"']?|xfreerdp\b"
            + _FAR
            + r"/p:[\"']?|htpasswd\b[^\n|;]{0,100}?-\w*b\w*[ \t](?:\S{1,80}[ \t]){2})(?P<v>[^\s\"'|;&<>\\]{3,200}+)"
        ),
        most=200,
    ),
    TextPlace(
        "password", ("jdbc:oracle",), re.compile(r"jdbc:oracle:\w{1,10}:[\w$#.-]{1,60}/(?P<v>[^\s@\"']{2,100}+)@")
    ),
    TextPlace(
        "password",
        ("identified", "password"),
        re.compile(
            r"(?i)\b(?:identified[ \t]{1,4}(?:with[ \t]{1,4}\S{1,40}[ \t]{1,4})?by(?:[ \t]{1,4}password)?"
            r"|with[ \t]{1,4}(?:encrypted[ \t]{1,4})?password|"
            r"(?:user|role)[ \t]{1,4}\S{1,64}[ \t]{1,4}(?:with[ \t]{1,4})?"
            r"(?:encrypted[ \t]{1,4})?password)[ \t]{1,4}'(?P<v>[^'\n]{1,200}+)'"
        ),
    ),
    # files
    TextPlace(
        "password",
        ("machine", "login"),
        re.compile(r"(?i)\b(?:machine|login)\s{1,4}\S{1,200}\s{1,8}password\s{1,4}(?P<v>[^\s\"']{2,200}+)"),
    ),
    TextPlace(
        "password",
        (":5432:", ":*:"),
        re.compile(
            r"(?:(?<=[\s\"'])|^)[A-Za-z0-9.*-]{1,100}:(?:5432|\*):[\w*-]{1,60}:[\w*-]{1,60}:(?P<v>[^\s:\"']{4,100}+)"
        ),
    ),
    TextPlace(
        "private-key",
        ("kty",),
        re.compile(r"\\?\"(?:d|p|q|dp|dq|qi|k)\\?\"\s{0,4}:\s{0,4}\\?\"(?P<v>[A-Za-z0-9_-]{30,}+)"),
    ),
    TextPlace(
        "private-key",
        ("private-lines",),
        re.compile(r"Private-Lines: \d{1,4}(?:\s|\\[rn])+(?P<v>(?:[A-Za-z0-9+/=]{4,80}+(?:\s|\\[rn]){0,4}){1,400})"),
    ),
    TextPlace(
        "private-key",
        ("mii",),
        re.compile(r"(?i)(?:private|secret|key|pkcs|pfx|p12)[^\n]{0,40}?[\"' =:](?P<v>MII[A-Za-z0-9+/]{60,}+={0,2})"),
    ),
)

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
#: A key's body if the last line is missing: base64, breaks (also as two characters), and headers.
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s]++|\\[rn]|(?:Proc-Type|DEK-Info|Comment|Version)[:] [\w ,.()+-]{0,80})*")
_B64_LINE = re.compile(r"\s*(?:[A-Za-z0-9+/=]{1,100})?(?:\s|\\[rn])*")
_B64_TAIL = re.compile(r"[A-Za-z0-9+/=]{1,200}(?:\s|\\[rn])*\Z")
#: Characters of a key, at most.
_LONGEST_KEY = 16_384
#: Keys in a text, at most; beyond it everything from the first is one secret.
_MOST_KEYS = 200


def private_keys(text: str) -> Iterator[Found]:
    """Yield the armoured private keys of a text, also those without their last or first lines."""
    done = 0
    if text.count("-----BEGIN ") > _MOST_KEYS:
        yield text.find("-----BEGIN "), len(text), "private-key"
        return
    while (begin := text.find("-----BEGIN ", done)) >= 0:
        head = _PEM.match(text, begin)
        if head is None:
            done = begin + 11
            continue
        end = _end_of_key(text, head.end())
        if end < 0:  # the last line is missing
            body = _PEM_BODY.match(text, head.end())
            end = begin + len(text[begin : body.end() if body is not None else head.end()].rstrip())
        done = max(end, head.end())
        yield begin, done, "private-key"
    last = 0
    for match in itertools.islice(_PEM_END.finditer(text), _MOST_KEYS):
        yield _begin_of_key(text, max(last, match.start() - _LONGEST_KEY), match.start()), match.end(), "private-key"
        last = match.end()


def _end_of_key(text: str, at: int) -> int:
    """Return the end of a key's last line; -1 if another key begins first, or there is none."""
    mark = text.find("-----", at, at + _LONGEST_KEY)
    end = _PEM_END.match(text, mark) if mark >= 0 else None
    return end.end() if end is not None else -1


def _begin_of_key(text: str, stop: int, end: int) -> int:
    """Return the start of the base64 lines before a key's last line."""
    begin = end
    while begin > stop:
        written = text.rfind("\\n", stop, begin - 1)
        start = max(text.rfind("\n", stop, begin - 1) + 1, written + 2 if written >= 0 else 0, stop)
        line = text[start:begin]
        if not _B64_LINE.fullmatch(line):
            tail = _B64_TAIL.search(line)
            return begin - len(tail.group()) if tail is not None else begin
        begin = start
    return begin


_AUTHORITY_END = re.compile(r"[\s\"'<>`|{}^\x00]|\\(?![@:/])|$")
_HOST = re.compile(r"[A-Za-z0-9_.-]+(?::\d{1,5})?(?:[,/?#]|$)")
#: Characters of an address, at most.
_LONGEST_URL = 512


def url_passwords(text: str) -> Iterator[Found]:
    """Yield passwords in addresses: ``scheme://user:password@host``, also passwords with a slash."""
    at = next_at = -1
    while (at := text.find("://", at + 1)) >= 0:
        begin = at + 3
        if next_at < begin and (next_at := text.find("@", begin)) < 0:
            return
        if next_at - begin > _LONGEST_URL:
            continue
        end = _AUTHORITY_END.search(text, begin, begin + _LONGEST_URL)
        whole = text[begin : end.start() if end is not None else begin + _LONGEST_URL]
        cut = min((i for i in map(whole.find, "/?#") if i >= 0), default=len(whole))
        if (mark := whole.rfind("@", 0, cut)) < 0:
            mark = _beyond(whole, cut)
        if mark < 0:
            continue
        user, colon, password = whole[:mark].partition(":")
        if colon and len(password) >= 2 and not is_nothing(password):
            yield begin + len(user) + 1, begin + mark, "url-credentials"
        elif not colon and is_random(user):
            yield begin, begin + mark, "url-credentials"


def _beyond(whole: str, cut: int) -> int:
    """Return the end of a password that contains a slash; -1 if the text after the colon is a port."""
    user, colon, begun = whole[:cut].partition(":")
    if (
        not colon
        or not begun
        or begun.isdigit()
        or not user.replace("_", "").replace("-", "").replace(".", "").isalnum()
    ):
        return -1
    mark = whole.rfind("@")
    if mark < 0 or not _HOST.match(whole, mark + 1):
        return -1
    return mark


def placed(text: str, lowered: str) -> Iterator[Found]:
    """Yield the secrets at the places of `PLACES`."""
    for kind, hints, pattern, check, most in PLACES:
        if 0 < sum(map(lowered.count, hints)) <= most:
            for match in pattern.finditer(text):
                begin, end = match.span("v")
                value = match.group("v")
                if check(value):
                    while end > begin and text[end - 1] in ".,;:":
                        end -= 1
                    yield begin, end, kind
