"""Whether a name means a secret: `DB_PASSWORD`, `clientSecret`, `http.request.header.authorization`.

A name is split into words. A word for a secret counts if it is the last one, or if the rest only qualifies
it (`SECRET_KEY_BASE`, `password_new`). So `token_type`, `max_tokens`, `primary_key`, `author` and
`session.id` are no secrets' names.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple


class Strength(IntEnum):
    """How certain a name makes it that its value is a secret."""

    #: Not a secret by its name.
    NONE = 0
    #: A secret if it looks random: signatures, cookies, keys of any kind.
    WEAK = 1
    #: A secret unless it plainly is none: tokens, which are also the words of models.
    TOKEN = 2
    #: A secret, whatever it looks like.
    STRONG = 3


class NameVerdict(NamedTuple):
    """The judgment of a name."""

    strength: Strength
    kind: str


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


_NONE = NameVerdict(Strength.NONE, "")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARTS = re.compile(r"[^a-z0-9]+")
#: Compounds at the end of many names.
_JOINED = re.compile(
    r"(api|access|private|secret|auth|session|client|account|shared|signing|encryption|master)"
    r"(key|token|secret|password|cookie)(s?)"
)
_GLUED = re.compile(r"[a-z0-9]*?(password|passwd|passphrase|secret|apikey|token|cookie)\d{0,2}")

#: Every name of a secret contains one of these.
_ANY = re.compile(
    r"(?i)pass|pwd|secret|cred|token|key|auth|cookie|sig|jwt|bearer|hmac|s(?:ess)?i(?:on)?d|otp|pat|pw|dsn|string"
)

_PASSWORDS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "passcode", "passwort", "passw", "userpass", "rootpw"}
)
_SECRETS = frozenset({"secret", "secrets", "credential", "credentials", "creds"})
_TOKENS = frozenset({"token", "jwt", "bearer"})
_WEAK = {
    "pass": "password",
    "pw": "password",
    "auth": "authorization",
    "signature": "signature",
    "sig": "signature",
    "hmac": "signature",
    "sid": "cookie",
    "jsessionid": "cookie",
    "phpsessid": "cookie",
    "sessionid": "cookie",
    "otp": "password",
    "pat": "token",
    "dsn": "url-credentials",
}
#: Words before "key" that make it a credential.
_KEYS = words(
    "api access private secret signing sign encryption encrypt decryption shared account master auth service app "
    "application client deploy license storage subscription session webhook hmac aes rsa jwt ssh gpg pgp bot "
    "host root admin consumer project server "
    "integration ingest integrity ssl tls crypto cipher symmetric wallet seed security recovery user"
)
#: Keys in capitals (environment variables) count if the value looks random, except these.
_PLAIN_KEYS = words(
    "primary foreign public cache partition sort routing idempotency dict hot map object row index shard group "
    "message record hash lookup unique composite natural surrogate redis registry column json yaml data meta "
    "metadata translation i18n label sequence "
    "event state queue topic issue project_key dedup ordering config configuration env variable parent child"
)
#: Vendors whose keys are secrets: "the cohere key".
VENDORS = words(
    "openai anthropic claude cohere mistral gemini vertex groq xai grok perplexity deepseek openrouter together "
    "fireworks replicate huggingface nvidia pinecone weaviate qdrant tavily serper serpapi exa firecrawl "
    "elevenlabs deepgram assemblyai stability langsmith langfuse helicone aws azure gcp google github gitlab "
    "bitbucket slack discord telegram twilio sendgrid mailgun mailchimp postmark stripe square paypal plaid "
    "shopify datadog newrelic sentry grafana posthog okta auth0 supabase firebase algolia mapbox notion linear "
    "figma airtable asana jira cloudflare digitalocean heroku vercel netlify linode hetzner snowflake databricks "
    "mongodb redis confluent kafka alibaba tencent yandex"
)
#: Words after a secret's word that do not change its meaning.
_MORE = words(
    "value new old current confirm confirmation base data text plain plaintext raw string str hash digest prod "
    "production dev test staging live main backup pem header b64 base64 encoded encrypted hex file_content "
    "contents v v1 v2 v3 1 2 3 0 a b primary secondary default"
)
#: Words before "token" that make it a piece of text, a count or a position.
_PIECES = words(
    "input output max min num eos bos pad unk sep cls mask special stop next page continuation sync cancellation "
    "first prompt completion per total reasoning cached start end begin last previous prev this each every image "
    "audio text word sub cost price count of design semantic lexer parser syntax pagination scroll"
)
#: First words that make the name a question about a secret, or an action on one.
_ABOUT = words(
    "is has have no use uses using need needs require requires required show hide forgot reset forget change "
    "without with missing invalid expired empty enable enabled disable disabled allow skip verify validate get "
    "set create delete list rotate revoke generate update check ignore store save supports"
)


@lru_cache(maxsize=8192)
def verdict(name: str) -> NameVerdict:
    """Return what a name says about its value."""
    if not _ANY.search(name):
        return _NONE
    found = _verdict(name, _HUMP.sub(" ", name).lower() if not name.isupper() else name.lower())
    return found if found.strength else _verdict(name, name.lower())  # PassWord


def _verdict(name: str, lowered: str) -> NameVerdict:
    parts = [part for part in _PARTS.split(_JOINED.sub(r"\1 \2\3", lowered)) if part]
    if not parts or len(parts) > 24:
        return _NONE
    while len(parts) > 1 and parts[-1] in _MORE and _said(parts[:-1], name).strength:
        parts = parts[:-1]
    return _said(parts, name)


def _said(parts: list[str], name: str) -> NameVerdict:
    last = parts[-1]
    before = parts[-2] if len(parts) > 1 else ""
    if parts[0] in _ABOUT and len(parts) <= 3 and not name.isupper():
        return _NONE
    if parts[-3:] == ["private", "key", "id"]:
        return NameVerdict(Strength.WEAK, "private-key")
    if last in _PASSWORDS or (last == "pass" and len(parts) > 1):
        return NameVerdict(Strength.STRONG, "password")
    if last in _SECRETS:
        return NameVerdict(Strength.STRONG if last != "secrets" or before else Strength.WEAK, "secret")
    if last in _TOKENS or (last == "tokens" and before in ("access", "auth", "refresh", "api")):
        if before in _PIECES:
            return _NONE
        return NameVerdict(Strength.STRONG if before or last != "token" else Strength.TOKEN, "token")
    if last == "key":
        return _of_key(parts, before, name)
    if last == "apikey" or last == "authkey":
        return NameVerdict(Strength.STRONG, "api-key")
    if last in ("authorization", "authtoken"):
        return NameVerdict(Strength.STRONG, "authorization")
    if last in ("cookie", "cookies"):
        return NameVerdict(
            Strength.STRONG if before in ("set", "header", "session", "auth", "") else Strength.WEAK, "cookie"
        )
    if parts[-2:] == ["connection", "string"]:
        return NameVerdict(Strength.WEAK, "url-credentials")
    if last in _WEAK:
        return NameVerdict(Strength.WEAK, _WEAK[last])
    if len(last) < 24 and (glued := _GLUED.fullmatch(last)) is not None:  # dbpassword, authtoken
        found = glued.group(1)
        return NameVerdict(
            Strength.STRONG, "api-key" if found == "apikey" else "password" if found.startswith("pass") else found
        )
    return _NONE


def _of_key(parts: list[str], before: str, name: str) -> NameVerdict:
    if before in ("api", "access", "secret", "app", "subscription", "functions", "auth"):
        return NameVerdict(Strength.STRONG, "api-key")
    if before == "private":
        return NameVerdict(Strength.STRONG, "private-key")
    if before in _KEYS:
        return NameVerdict(Strength.STRONG, "key")
    if before in VENDORS:
        return NameVerdict(Strength.WEAK, "api-key")
    if before and before not in _PLAIN_KEYS and (name.isupper() or "access" in parts or "secret" in parts):
        return NameVerdict(Strength.WEAK, "key")
    return _NONE
