"""Whether a value can be a secret: placeholders, types, code and words cannot, whatever their name."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from itertools import pairwise
from math import log2

from spanpost.text.names import Strength, words

#: Words that are written in place of a secret; compared in lower case, without brackets and quotes.
_NOTHING = words(
    "none null nil undefined nan true false yes no on off empty unset missing invalid required optional default "
    "disabled enabled n/a na tbd todo fixme placeholder redacted masked hidden filtered removed omitted scrubbed "
    "censored unknown expired ok changeme change-me change_me changethis replaceme replace-me example sample "
    "dummy fake foobar foo bar baz test testing demo mock string str text bytes int integer bool boolean float "
    "number object any void char varchar secretstr type value values password passwd pass pwd pw passphrase "
    "secret secrets token tokens key keys apikey api_key api-key auth credential credentials cookie signature "
    "bearer basic digest negotiate ntlm oauth oauth2 jwt oidc saml user username admin root me include "
    "same-origin omit forbidden unauthorized authentication authorization your yours mine the this that here "
    "there see above below self cls config settings env environ args kwargs request response "
    "data result input output file path name id url uri arn is are was to from for with and or not of in a an it"
)
#: Words that make up names of functions, variables and fields.
_VOCABULARY = _NOTHING | words(
    "my new old current get set has use access refresh client server private public shared session header field "
    "param parameter parameters option options variable vars var prefix suffix store manager provider service "
    "handler helper util utils base model hash hashed salt raw plain encoded decoded encrypted csrf xsrf id ids "
    "app application db database github gitlab slack aws azure google openai anthropic hugging face huggingface "
    "hf com org default defaults make create build load read fetch next page cancellation count limit max min "
    "first last end start begin eos bos pad unk special sign signing verify check validate callable function "
    "lambda method class instance constant const let static final async await return yield import export string "
    "bytes list dict tuple sequence mapping iterable iterator generator optional union literal annotated scheme "
    "schema error exception message info debug warning context state status code body content query form json "
    "xml yaml html user_id encoder decoder tokenizer parser lexer stream reader writer buffer chunk event events "
    "log logs account email login logout supplied given provided specified passed using used inside outside "
    "without required expired invalid missing wrong correct"
)
_TEMPLATE = re.compile(
    r"<[^>]{0,80}>?$|\$\{|\$\(|\$[A-Za-z_]\w*$|\$[A-Z]|\$\d?$|\{\{"
    r"|[{\[(][\w .:!|-]{0,60}[}\])]?$|%[sdr](?![A-Za-z0-9])|%\(\w+\)|%[A-Z_]+%|@@|"
    r"(?:\*|x|X|•|\.|…|-|_|#|\?){3,}$|(?:\*{3}|x{4}|X{4}|•{2}|…|\.{3})|.{0,8}(?:\*{3,}|•{3,}|…|\.{3})$|"
    r"(?:your|my|some|insert|enter|put|replace|example|dummy|fake|change|a|the|new)[-_ ]"
    r"(?:own|api|secret|token|password|key|access|client|"
    r"auth|me|this|here|with|it)",
    re.IGNORECASE,
)
#: A call, an index, a type annotation.
_CODE = re.compile(
    r"[A-Za-z_][\w.]*[(\[|]|\([a-z_]|(?:lambda|await|not|new|self|this|process|os|settings|config|env|args|request)\b[.\s:]|f?[rb]?[\"']"
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+[.,;:]?")
_FIELDS = re.compile(r"\{[^{}\s]{0,40}\}")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = re.compile(r"[A-Za-z]+(?:[-_/.:'][A-Za-z]+)+")
_PATH = re.compile(
    r"(?:~|\.{1,2})?/[\w.@-]+(?:/[\w.@*-]*)*|[A-Za-z]:\\.*|[a-z][a-z0-9+.-]{1,20}://.*|[\w.-]+/[\w./-]*\.[a-z]{1,6}"
)
_NUMBER = re.compile(r"[+-]?[\d,._]+(?:e[+-]?\d+)?%?|0x[0-9a-fA-F]{1,8}|\d+(?:\.\d+)*(?:[a-z]{1,3}|(?:st|nd|rd|th))?")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_ALPHABET = re.compile(r"[A-Za-z0-9_+/=.~%:$!@*#^&,-]+")
#: Passwords and tokens of examples: "mypassword", "app_token".
_EXAMPLE = re.compile(
    r"(?:my|your|app|user|db|the|new|old|some|smtp|admin|root|sending|bot|super|top|very|access|client|auth|api)?[-_ ]?"
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|api[-_]?key|credentials?)s?(?:[-_]?(?:here|value|string))?"
)
#: A word, also in camel case, with at most a number at its end.
_WORDLIKE = re.compile(r"[A-Z]*(?:[A-Z]?[a-z]+)*\d{0,4}")
_PARTS = re.compile(r"[-_./+~%:]")
#: Technical words with digits, as they occur in ordinary prose.
_TECHNICAL = re.compile(
    r"(?:oauth|utf|base|sha|md|http|https|ipv|python|py|x|rs|hs|es|ps|k|s|ec|tls|ssl|v|aes|rsa|ed|argon|bcrypt|pbkdf|scrypt|ntlm|"
    r"saml|hotp|totp|web|win|level|step|phase|version|type|line|part|page|no|nr)-?\d{1,4}(?:[._-]\d{1,3})*"
    r"(?:[._-]?(?:bit|alpha|beta|rc|mb|st|nd|s|k|sum|url|crypt|id|i|d)\d{0,2})?",
    re.IGNORECASE,
)
_EDGES = " \t\"'`.,;:!?()[]{}<>*"


def is_random(text: str, least: int = 16) -> bool:
    """Tell whether a text looks machine-made: letters and digits mixed, many different ones, no words."""
    text = text.strip("=")[:256]
    size = len(text)
    if size < least or not _ALPHABET.fullmatch(text):
        return False
    digits = sum(map(str.isdigit, text))
    upper = sum(map(str.isupper, text))
    lower = sum(map(str.islower, text))
    if not digits and not (upper and lower):
        return False
    if upper + lower == 0 or max(map(len, _PARTS.split(text))) < 8:
        return False
    if _HEX.fullmatch(text):
        return digits >= 2 and upper + lower >= 2 and _entropy(text) >= 2.6
    classes = [1 if c.isdigit() else 2 if c.isupper() else 3 if c.islower() else 4 for c in text]
    changes = sum(map(int.__ne__, classes, classes[1:]))
    if not digits:
        # Words have more vowels than random letters, and fewer capitals inside.
        return size >= 20 and changes >= 0.2 * size and sum(map("aeiouAEIOU".__contains__, text)) < 0.3 * size
    if digits and not (upper and lower):
        return _entropy(text) >= 3.0 and changes >= 0.2 * size
    return _entropy(text) >= 3.0 and changes >= 0.25 * size


def is_drawn_wildly(text: str) -> bool:
    """Tell whether letters, digits and slashes are no path: capitals and digits anywhere in the words."""
    parts = [part for part in re.split(r"[/+]", text) if part]
    classes = [1 if c.isdigit() else 2 if c.isupper() else 3 for part in parts for c in part]
    changes = sum(map(int.__ne__, classes, classes[1:]))
    is_of_words = all(_WORDLIKE.fullmatch(part) for part in parts)
    return not is_of_words and any(map(str.isdigit, text)) and changes >= 0.3 * len(classes) and _entropy(text) >= 4.0


def _entropy(text: str) -> float:
    size = len(text)
    return -sum(n / size * log2(n / size) for n in Counter(text).values())


def is_nothing(value: str) -> bool:
    """Tell whether a value is no secret: a placeholder, a template, a mask, or already redacted."""
    bare = value.strip(_EDGES).lower()
    if not bare or "\0" in value or bare in _NOTHING or _EXAMPLE.fullmatch(bare) or _FIELDS.search(value):
        return True
    return _TEMPLATE.match(value.strip(" \t\"'`")) is not None and not is_random(value.strip("$%{}"), 20)


def is_uuid(value: str) -> bool:
    """Tell whether a value is a UUID."""
    return _UUID.fullmatch(value) is not None


def is_secret(value: str, strength: Strength, kind: str, *, is_quoted: bool, is_set: bool) -> bool:
    """Tell whether the value beside a secret's name is a secret.

    `is_quoted`: it was in quotes. `is_set`: it is data of a variable, a flag or an address, not part of a
    sentence or a program.
    """
    size = len(value)
    if size < 3 or is_nothing(value):
        return False
    is_password = kind == "password"
    if strength is Strength.WEAK:
        if kind == "authorization" and is_basic(value):
            return True
        return (is_random(value) and not is_uuid(value)) or (
            is_password and size >= 5 and has_mark(value) and not is_code(value)
        )
    if _NUMBER.fullmatch(value):
        return is_password and size >= 4 and value.isdigit()
    if _PATH.fullmatch(value) and not is_random(value, 24):
        return False
    if " " in value or "\t" in value:
        return is_quoted and is_phrase(value, kind)
    if not is_quoted and is_code(value) and (not is_random(value) or not any(map(str.isdigit, value))):
        return False
    if _WORD.fullmatch(value):
        if is_random(value):
            return True
        word = value.lower()
        return (
            size >= 6
            and word not in _VOCABULARY
            and (is_set or is_quoted)
            and not value.isupper()
            and (is_password or kind == "secret")
        )
    if _WORDS.fullmatch(value):
        said = [word.lower() for word in _PARTS.split(value)]
        return is_password and (is_set or is_quoted) and size >= 10 and not _VOCABULARY.intersection(said)
    if value.isidentifier() and not any(map(str.isdigit, value)):
        return False
    if strength is Strength.TOKEN and size < 8:
        return False
    if size < 6 and not (is_password and has_mark(value)):
        return False
    return not _TECHNICAL.fullmatch(value) and _has_letter_or_digit(value)


def is_basic(value: str) -> bool:
    """Tell whether a word is base64 of user name and password, as in `Basic` and docker's `auth`."""
    try:
        user, colon, password = b64decode(value + "=" * (-len(value) % 4), validate=True).decode().partition(":")
    except ValueError:
        return False
    return bool(colon and password) and user.isprintable() and password.isprintable()


def is_code(value: str) -> bool:
    """Tell whether an unquoted value is a piece of code."""
    return _CODE.match(value) is not None or _DOTTED.fullmatch(value) is not None


def has_mark(value: str) -> bool:
    """Tell whether letters are mixed with digits or special characters, as in a password."""
    inner = value.rstrip(".,;:!?)")
    letters = sum(map(str.isalpha, inner))
    digits = sum(map(str.isdigit, inner))
    marks = sum(c in "!@#$%^&*+=~?|" for c in value)
    return bool(letters and (digits or marks)) and not _TECHNICAL.fullmatch(inner)


def is_phrase(value: str, kind: str) -> bool:
    """Tell whether quoted words are a passphrase and no sentence."""
    said = value.split()
    if len(said) > 8 or kind != "password":
        return False
    if any(map(has_mark, said)) and len(said) <= 4:
        return True
    return (
        len(said) >= 4 and all(word.isalpha() and word.islower() for word in said) and not _NOTHING.intersection(said)
    )


def is_spoken(value: str, kind: str, strength: Strength, *, is_connected: bool) -> bool:
    """Tell whether a word after a secret's name in a sentence is the secret: "use password hunter2!"."""
    word = value.rstrip(".,;:)\"'")
    if (
        len(word) < 6
        or is_nothing(word)
        or _NUMBER.fullmatch(word)
        or _TECHNICAL.fullmatch(word)
        or _PATH.fullmatch(word)
    ):
        return False
    if is_uuid(word):
        return is_connected
    if not is_connected and any(map(word.__contains__, "=()[]{}<>")):
        return False
    if is_random(word) or (len(word) >= 24 and word.isalnum() and not word.isalpha() and not word.isdigit()):
        return True
    user, colon, password = word.partition(":")
    if kind == "secret" and colon and _WORD.fullmatch(user) and has_mark(password):
        return True
    if is_connected and kind == "password" and _is_drawn(word):
        return True
    if is_code(word) or _WORDS.fullmatch(word) or _WORD.fullmatch(word):
        return False
    if kind == "password" or (is_connected and strength is Strength.STRONG):
        return has_mark(value) and not _is_compound(word)
    return is_connected and len(word) >= 8 and has_mark(word) and any(map(str.isdigit, word)) and not _is_compound(word)


def _is_drawn(word: str) -> bool:
    """Tell whether the case changes at about every second letter, as in no name of a program."""
    changes = sum(a.isupper() is not b.isupper() for a, b in pairwise(word))
    return len(word) >= 10 and word.isalpha() and word.isascii() and changes >= 0.4 * len(word)


def _is_compound(word: str) -> bool:
    """Tell whether hyphens or slashes join words and numbers: "token-2-text", "user/password"."""
    parts = [part for part in re.split(r"[-_/.:=]", word) if part]
    return len(parts) > 1 and all(part.isdigit() or part.isalpha() for part in parts)


def _has_letter_or_digit(value: str) -> bool:
    return any(c.isalnum() for c in value)
