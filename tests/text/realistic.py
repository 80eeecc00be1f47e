"""Secrets as vendors document them, with random bodies from a seed, and texts in which agents leak them.

Nothing here is read from the scanner's own table: each form is written from the vendor's documentation, in full length.
A form is a sequence of literal text and `(alphabet, length)`; a text has `{}` where the secret stands.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

AN = string.ascii_letters + string.digits
LOW = string.ascii_lowercase + string.digits
UP = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URL = AN + "-_"
B64 = AN + "+/"
DIG = string.digits

Form = tuple[str | tuple[str, int], ...]

#: Written in halves where a scanner of repositories would take a literal for a leak.
FORMS: dict[str, Form] = {
    "OpenAI project": ("sk-" "proj-", (URL, 74), "T3Blbk" "FJ", (URL, 74)),
    "OpenAI service account": ("sk-" "svcacct-", (URL, 58), "T3Blbk" "FJ", (URL, 58)),
    "OpenAI legacy": ("sk-", (AN, 20), "T3Blbk" "FJ", (AN, 20)),
    "OpenAI short": ("sk-", (AN, 32)),
    "Anthropic": ("sk-" "ant-api03-", (URL, 93), "AA"),
    "Anthropic admin": ("sk-" "ant-admin01-", (URL, 93), "AA"),
    "OpenRouter": ("sk-" "or-v1-", (HEX, 64)),
    "DeepSeek": ("sk-", (HEX, 32)),
    "Groq": ("gsk" "_", (AN, 52)),
    "xAI": ("xai" "-", (AN, 80)),
    "Perplexity": ("pplx" "-", (AN, 48)),
    "Hugging Face": ("hf" "_", (string.ascii_letters, 34)),
    "Replicate": ("r8" "_", (AN, 37)),
    "LangSmith": ("lsv2" "_pt_", (HEX, 32), "_", (HEX, 10)),
    "Pinecone": ("pcsk" "_", (AN, 5), "_", (AN, 63)),
    "Google API": ("AIza" "Sy", (URL, 33)),
    "Google AQ": ("AQ" ".Ab8", (URL, 48)),
    "NVIDIA": ("nvapi" "-", (URL, 64)),
    "Tavily": ("tvly" "-dev-", (AN, 32)),
    "Fireworks": ("fw" "_", (AN, 24)),
    "Langfuse": ("sk-" "lf-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12)),
    "GitHub classic": ("gh" "p_", (AN, 36)),
    "GitHub OAuth": ("gh" "o_", (AN, 36)),
    "GitHub app": ("gh" "s_", (AN, 36)),
    "GitHub refresh": ("gh" "r_", (AN, 76)),
    "GitHub fine-grained": ("github" "_pat_", (AN, 22), "_", (AN, 59)),
    "GitLab": ("gl" "pat-", (URL, 20)),
    "GitLab runner": ("gl" "rt-", (URL, 20)),
    "GitLab deploy": ("gl" "dt-", (URL, 20)),
    "GitLab trigger": ("gl" "ptt-", (HEX, 40)),
    "GitLab CI job": ("gl" "cbt-64_", (URL, 20)),
    "GitLab agent": ("gl" "agent-", (URL, 50)),
    "GitLab feed": ("gl" "ft-", (URL, 20)),
    "Atlassian": ("ATATT3x" "FfGF0", (URL, 174), "=", (UP, 8)),
    "Bitbucket app": ("AT" "BB", (AN, 32)),
    "npm": ("npm" "_", (AN, 36)),
    "PyPI": ("pypi" "-AgEIcHlwaS5vcmc", (URL, 150)),
    "RubyGems": ("rubygems" "_", (HEX, 48)),
    "crates.io": ("ci" "o", (AN, 32)),
    "Docker Hub": ("dckr" "_pat_", (URL, 27)),
    "AWS key id": ("AK" "IA", ("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
    "AWS temporary id": ("AS" "IA", ("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
    "Google OAuth token": ("ya29" ".a0", (URL, 160)),
    "Google OAuth secret": ("GOC" "SPX-", (URL, 28)),
    "Azure client secret": ((AN, 3), "8Q~", (AN, 34)),
    "Alibaba": ("LT" "AI5t", (AN, 20)),
    "Tencent": ("AK" "ID", (AN, 32)),
    "Yandex": ("AQ" "VN", (URL, 36)),
    "DigitalOcean": ("dop" "_v1_", (HEX, 64)),
    "DigitalOcean OAuth": ("doo" "_v1_", (HEX, 64)),
    "Heroku": ("HR" "KU-AA", (URL, 58)),
    "Fly": ("fo1" "_", (URL, 43)),
    "Fly macaroon": ("fm2" "_", (B64, 180)),
    "Render": ("rnd" "_", (AN, 32)),
    "Netlify": ("nf" "p_", (AN, 36)),
    "Supabase": ("sbp" "_", (HEX, 40)),
    "PlanetScale": ("pscale" "_pw_", (URL, 43)),
    "PlanetScale token": ("pscale" "_tkn_", (URL, 43)),
    "Databricks": ("da" "pi", (HEX, 32)),
    "Vault": ("hv" "s.", (URL, 95)),
    "Vault batch": ("hv" "b.", (URL, 150)),
    "Terraform": ((AN, 14), ".atlas" "v1.", (URL, 67)),
    "Pulumi": ("pul" "-", (HEX, 40)),
    "Doppler": ("dp" ".pt.", (AN, 43)),
    "1Password service": ("ops" "_eyJ", (B64, 260)),
    "age": ("AGE-SECRET-" "KEY-1", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "Slack bot": ("xo" "xb-", (DIG, 12), "-", (DIG, 13), "-", (AN, 24)),
    "Slack user": ("xo" "xp-", (DIG, 12), "-", (DIG, 12), "-", (DIG, 13), "-", (HEX, 32)),
    "Slack app": ("xa" "pp-1-A", (UP, 10), "-", (DIG, 13), "-", (HEX, 64)),
    "Telegram": ((DIG, 10), ":A" "A", (URL, 33)),
    "Discord bot": ("M", (AN, 25), ".G", (URL, 5), ".", (URL, 38)),
    "Notion": ("nt" "n_", (DIG, 11), (AN, 35)),
    "Notion old": ("secret" "_", (AN, 43)),
    "Figma": ("fig" "d_", (URL, 40)),
    "Airtable": ("pat", (AN, 14), ".", (HEX, 64)),
    "Asana": ("1/", (DIG, 16), ":", (HEX, 32)),
    "Linear": ("lin" "_api_", (AN, 40)),
    "HubSpot": ("pat-" "na1-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12)),
    "Stripe live": ("sk" "_live_", (AN, 24)),
    "Stripe long": ("sk" "_live_51", (AN, 97)),
    "Stripe restricted": ("rk" "_live_", (AN, 24)),
    "Stripe test": ("sk" "_test_", (AN, 24)),
    "Stripe webhook": ("wh" "sec_", (AN, 32)),
    "Square": ("sq0" "atp-", (URL, 22)),
    "Shopify": ("shp" "at_", (HEX, 32)),
    "Braintree": ("access_token" "$production$", (LOW, 16), "$", (HEX, 32)),
    "Plaid": ("access-" "sandbox-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12)),
    "Mailgun": ("ke" "y-", (HEX, 32)),
    "Mailchimp": ((HEX, 32), "-us", (DIG, 2)),
    "SendGrid": ("S" "G.", (URL, 22), ".", (URL, 43)),
    "Twilio key": ("S" "K", (HEX, 32)),
    "Twilio account": ("A" "C", (HEX, 32)),
    "Sentry user": ("sntry" "u_", (HEX, 64)),
    "New Relic": ("NR" "AK-", (UP, 27)),
    "Grafana": ("gl" "sa_", (AN, 32), "_", (HEX, 8)),
    "Grafana Cloud": ("gl" "c_eyJ", (B64, 100)),
    "PostHog": ("ph" "x_", (AN, 43)),
    "Dynatrace": ("dt0" "c01.", (UP, 24), ".", (UP, 64)),
    "Postman": ("PM" "AK-", (HEX, 24), "-", (HEX, 34)),
    "Tailscale": ("ts" "key-auth-", (AN, 12), "-", (AN, 32)),
    "Sourcegraph": ("sg" "p_", (HEX, 40)),
    "Artifactory": ("AK" "Cp8", (AN, 68)),
    "Buildkite": ("bk" "ua_", (HEX, 40)),
    "Typeform": ("tf" "p_", (URL, 59)),
    "JWT": ("ey" "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.ey" "J", (URL, 60), ".", (URL, 43)),
    "spanpost": ("sp" "t_", (URL, 43)),
}  # fmt: skip

#: Places of a secret of a known form, without a name that gives its kind.
TEXTS = (
    "{}",
    "using {} for the call",
    "Invalid credentials: {}.",
    "'{}'",
    '{{"value": "{}", "ok": true}}',
    "deploy({})",
    "https://example.com/hook/{}?x=1",
    "step 3 failed: got 401 with {}, giving up",
    "\x1b[31m{}\x1b[0m",
    "x={}&y=2",
    "  - {}\n  - other",
    '{{\\"inner\\": \\"{}\\"}}',
)

#: Names, and texts in which a value follows one; `{n}` is the name.
PASSWORD_NAMES = (
    "password",
    "DB_PASSWORD",
    "passwd",
    "pwd",
    "adminPassword",
    "POSTGRES_PASSWORD",
    "smtp_pass",
    "passphrase",
)
TOKEN_NAMES = ("access_token", "refresh_token", "API_KEY", "apiKey", "client_secret", "SECRET_KEY", "auth_token",
               "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN",
               "private_token", "x-api-key", "encryption_key", "session_token", "clientSecret", "AWS_SESSION_TOKEN",
               "webhook_secret", "secret")  # fmt: skip
NAMED = (
    "{n}={v}", "{n} = {v}", "{n}: {v}", '{n}: "{v}"', '"{n}": "{v}"', "'{n}': '{v}'", '{n} = "{v}"', "export {n}={v}",
    "ENV {n} {v}", "--{n}={v}", "--{n} {v}", '{{"user": "bob", "{n}": "{v}", "host": "db"}}',
    '{{\\"{n}\\": \\"{v}\\"}}', "https://api.example.com/v1?user=bob&{n}={v}&page=2",
    "host=db.internal user=app {n}={v} sslmode=require", "  {n}: {v}\n  port: 5432", "connect failed ({n}={v})",
    "Error: invalid {n} '{v}'", "the {n} is {v}", "set {n} to {v} and try again", '["--{n}", "{v}"]',
    '{{"name": "{n}", "value": "{v}"}}', "<{n}>{v}</{n}>", "{n} => '{v}'",
    "2026-11-22 10:00:01 DEBUG auth: {n}={v} ok=true", "docker run -e {n}={v} app", "raise AuthError('{n}={v}')",
    "{n}%3D{v}", "{n}:{v}",
)  # fmt: skip


class Case(NamedTuple):
    """A text, and the secret that must be removed from it."""

    what: str
    text: str
    secret: str


def drawn(form: Form, rng: random.Random) -> str:
    """Return a random secret of a form."""
    return "".join(part if isinstance(part, str) else "".join(rng.choices(part[0], k=part[1])) for part in form)


def by_form(seed: int) -> Iterator[Case]:
    """Yield a secret of each form in some of the texts."""
    rng = random.Random(seed)
    for what, form in FORMS.items():
        for text in ("{}", *rng.sample(TEXTS[1:], 3)):
            secret = drawn(form, rng)
            yield Case(what, text.replace("{{", "{").replace("}}", "}").replace("{}", secret), secret)


def a_password(rng: random.Random) -> str:
    """Return a password as people choose them."""
    words = ("hunter", "Winter", "correcthorse", "dragon", "Sommer", "letme", "P@ss", "tr0ub4dor", "Monkey", "Qwerty")
    word = rng.choice(words)
    return rng.choice(
        (f"{word}{rng.randint(10, 9999)}", f"{word}{rng.randint(1, 99)}!", f"{word}#{rng.randint(100, 999)}",
         f"{word.title()}-{rng.randint(2000, 2030)}$",
         "".join(rng.choices(AN + "!#%*+-_", k=12)) + str(rng.randint(0, 9)),
         f"{rng.randint(10, 99)}{word}@{rng.randint(10, 99)}")
    )  # fmt: skip


def an_opaque(rng: random.Random) -> str:
    """Return a token of no known form."""
    return rng.choice(
        (
            lambda: "".join(rng.choices(AN, k=rng.choice((24, 32, 40)))),
            lambda: "".join(rng.choices(HEX, k=rng.choice((32, 40, 64)))),
            lambda: base64.b64encode(rng.randbytes(rng.choice((24, 30, 32)))).decode(),
            lambda: base64.urlsafe_b64encode(rng.randbytes(30)).decode(),
            lambda: str(UUID(bytes=rng.randbytes(16), version=4)),
        )
    )()


def by_name(seed: int) -> Iterator[Case]:
    """Yield passwords and opaque tokens beside a name, in every text once or twice."""
    rng = random.Random(seed)
    for text in NAMED:
        for names, value in ((PASSWORD_NAMES, a_password), (TOKEN_NAMES, an_opaque)):
            for _ in range(2):
                name, secret = rng.choice(names), value(rng)
                if "%3D" in text or "?user" in text:
                    secret = "".join(c for c in secret if c.isalnum()) + "a1"
                if text.startswith("<"):
                    name = name.replace(" ", "")
                yield Case(
                    text, text.replace("{{", "{").replace("}}", "}").replace("{n}", name).replace("{v}", secret), secret
                )


def _pem(rng: random.Random, what: str) -> tuple[str, str]:
    body = base64.b64encode(rng.randbytes(900)).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN {what}-----\n{lines}\n-----END {what}-----", lines


PLACED: dict[str, Callable[[random.Random], tuple[str, str]]] = {}


def placed(name: str) -> Callable[[Callable[[random.Random], tuple[str, str]]], None]:
    def keep(make: Callable[[random.Random], tuple[str, str]]) -> None:
        PLACED[name] = make

    return keep


def _simple(name: str, text: str, value: Callable[[random.Random], str] = a_password) -> None:
    @placed(name)
    def make(rng: random.Random) -> tuple[str, str]:
        secret = value(rng)
        return text.replace("{v}", secret), secret


def _url_safe(rng: random.Random) -> str:
    return "".join(c if c.isalnum() else "x" for c in a_password(rng)) + "7q"


_simple("Postgres URL", "postgres://app:{v}@db.internal:5432/shop", _url_safe)
_simple("Redis URL", "redis://:{v}@cache:6379/0", _url_safe)
_simple("Mongo URL", "mongodb+srv://admin:{v}@cluster0.abcde.mongodb.net/db?retryWrites=true", _url_safe)
_simple("AMQP URL", "amqp://svc:{v}@mq:5672/%2f", _url_safe)
_simple("MySQL URL", "mysql+pymysql://root:{v}@127.0.0.1/app", _url_safe)
_simple("slash in a URL", "postgres://bob:pa/{v}@db/x", _url_safe)
_simple("at in a URL", "https://bob:p@{v}@host.example/x", _url_safe)
_simple("git URL", "git clone https://{v}@github.com/acme/shop.git", lambda r: drawn(((AN, 40),), r))
_simple("Sentry DSN", "https://{v}@o123.ingest.sentry.io/456", lambda r: drawn(((HEX, 32),), r))
_simple("curl -u", "curl -s -u bob:{v} https://example.com/api", _url_safe)
_simple("curl --user", "curl --user 'bob:{v}' https://example.com/api")
_simple("mysql -p", "mysql -h db -uroot -p{v} shop", _url_safe)
_simple("mysqldump -p", "mysqldump --single-transaction -u root -p{v} shop", _url_safe)
_simple("sshpass", "sshpass -p {v} ssh root@host", _url_safe)
_simple("docker login", "docker login -u bob -p {v} registry.example.com", _url_safe)
_simple("redis-cli", "redis-cli -h cache -a {v} ping", _url_safe)
_simple("PGPASSWORD", "PGPASSWORD={v} psql -h db", _url_safe)
_simple("SQL", "CREATE USER app WITH PASSWORD '{v}'")
_simple("SQL identified", "ALTER USER 'root'@'%' IDENTIFIED BY '{v}';")
_simple("netrc", "machine api.example.com login bob password {v}", _url_safe)
_simple("netrc lines", "machine api.example.com\n  login bob\n  password {v}\n", _url_safe)
_simple("pgpass", "db.internal:5432:shop:app:{v}", _url_safe)
_simple("npmrc", "//registry.npmjs.org/:_authToken={v}", an_opaque)
_simple("pip.conf", "index-url = https://bob:{v}@pypi.example.com/simple", _url_safe)
_simple("Bearer", "Authorization: Bearer {v}", an_opaque)
_simple("Bearer alone", "got 403 for Bearer {v}", lambda r: drawn(((AN, 36),), r))
_simple("Token scheme", "Authorization: Token {v}", lambda r: drawn(((HEX, 40),), r))
_simple("no scheme", '"authorization": "{v}"', lambda r: drawn(((AN, 36),), r))
_simple("header in curl", "curl -H 'X-Api-Key: {v}' https://example.com", an_opaque)
_simple("header of GitLab", "PRIVATE-TOKEN: {v}", an_opaque)
_simple("header of Vault", "X-Vault-Token: {v}", an_opaque)
_simple("header of Datadog", "DD-API-KEY: {v}", lambda r: drawn(((HEX, 32),), r))
_simple("header as a pair", '("x-api-key", "{v}")', an_opaque)
_simple("Cookie", "Cookie: session={v}; theme=dark", lambda r: drawn(((AN, 32),), r))
_simple("Set-Cookie", "Set-Cookie: sid={v}; Path=/; HttpOnly", lambda r: drawn(((AN, 32),), r))
_simple("Azure storage",
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={v};EndpointSuffix=core.windows.net",
        lambda r: base64.b64encode(r.randbytes(64)).decode())  # fmt: skip
_simple("Azure bus", "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={v}",
        lambda r: base64.b64encode(r.randbytes(32)).decode())  # fmt: skip
_simple("Azure SAS", "https://acme.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-12-01&sr=b&sp=r&sig={v}",
        lambda r: quote(base64.b64encode(r.randbytes(32)).decode(), safe=""))  # fmt: skip
_simple("AWS presigned", "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261122T000000Z&X-Amz-Signature={v}",
        lambda r: drawn(((HEX, 64),), r))  # fmt: skip
_simple("AWS secret", "aws_secret_access_key = {v}", lambda r: drawn(((B64, 40),), r))
_simple("AWS secret in words", "the AWS secret is {v}", lambda r: drawn(((B64, 40),), r))
_simple("query token", "GET /cb?token={v} 200", lambda r: drawn(((AN, 20),), r))
_simple("query code", "GET /callback?code={v}&state=xyz 302", lambda r: drawn(((URL, 40),), r))
_simple("query key", "https://maps.example.com/api?key={v}", lambda r: drawn(((URL, 32),), r))
_simple("Slack webhook", "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/{v}", lambda r: drawn(((AN, 24),), r))
_simple("Discord webhook", "https://discord.com/api/webhooks/123456789012345678/{v}", lambda r: drawn(((URL, 68),), r))
_simple("Zapier hook", "https://hooks.zapier.com/hooks/catch/1234567/{v}", lambda r: drawn(((LOW, 12),), r))
_simple(
    "docker auth",
    '{"auths": {"registry.example.com": {"auth": "{v}"}}}',
    lambda r: base64.b64encode(f"bob:{a_password(r)}".encode()).decode(),
)
_simple("Basic", "Authorization: Basic {v}", lambda r: base64.b64encode(f"bob:{a_password(r)}".encode()).decode())
_simple("kubeconfig token", "users:\n- name: admin\n  user:\n    token: {v}", lambda r: drawn(((AN, 40),), r))
_simple(
    "kubeconfig key",
    "    client-key-data: {v}",
    lambda r: base64.b64encode(_pem(r, "RSA PRIVATE KEY")[0].encode()).decode(),
)
_simple("prose use", "I will use password {v} for the login")
_simple("prose is", "ok, the password is {v}")
_simple("prose colon", "Login is admin, password: {v}")
_simple("prose for", "the password for the staging db is {v}")
_simple("prose quoted", "logged in with password '{v}'")
_simple("prose token", "Here is my API key: {v}", an_opaque)
_simple("prose token is", "your access token is {v} and lasts an hour", lambda r: drawn(((AN, 32),), r))
_simple("prose credentials", "credentials: bob / {v}", lambda r: drawn(((AN, 24),), r))
_simple("near", "token (new since today) {v}", lambda r: drawn(((AN, 40),), r))
_simple("Django", "SECRET_KEY = 'django-insecure-{v}'", lambda r: drawn(((LOW + "!@#$%^&*(-_=+)", 42),), r))
_simple("properties", "spring.datasource.password={v}", _url_safe)
_simple("terraform", 'password = "{v}"')
_simple("ini", "[client]\nuser = root\npassword = {v}\n", _url_safe)
_simple("helm", "helm upgrade app . --set db.password={v}", _url_safe)
_simple("kubectl", "kubectl create secret generic db --from-literal=password={v}", _url_safe)
_simple(
    "stack trace", "  File \"app.py\", line 3, in connect\n    login(user='bob', password='{v}')\nValueError: refused"
)
_simple("JWK", '{"kty":"OKP","crv":"Ed25519","x":"abc","d":"{v}"}', lambda r: drawn(((URL, 43),), r))
_simple("bcrypt", "$2b$12${v}", lambda r: drawn(((AN + "./", 53),), r))


@placed("PEM")
def _(rng: random.Random) -> tuple[str, str]:
    return _pem(rng, "RSA PRIVATE KEY")


@placed("PEM in JSON")
def _(rng: random.Random) -> tuple[str, str]:
    whole, lines = _pem(rng, "PRIVATE KEY")
    return json.dumps({"private_key": whole, "type": "service_account"}), lines.splitlines()[3]


@placed("PEM without its first line")
def _(rng: random.Random) -> tuple[str, str]:
    whole, lines = _pem(rng, "OPENSSH PRIVATE KEY")
    return "…" + whole[200:], lines.splitlines()[-2]


@placed("PEM without its last line")
def _(rng: random.Random) -> tuple[str, str]:
    whole, lines = _pem(rng, "EC PRIVATE KEY")
    return whole[:500], lines.splitlines()[3]


@placed("private_key_id")
def _(rng: random.Random) -> tuple[str, str]:
    secret = drawn(((HEX, 40),), rng)
    return f'{{"type": "service_account", "private_key_id": "{secret}"}}', secret


@placed("broken over a line")
def _(rng: random.Random) -> tuple[str, str]:
    secret = "ghp_" + drawn(((AN, 36),), rng)
    cut = rng.randint(8, 30)
    return f"used {secret[:cut]}\n    {secret[cut:]} here", secret[cut:]


@placed("zero width")
def _(rng: random.Random) -> tuple[str, str]:
    secret = "ghp_" + drawn(((AN, 36),), rng)
    return f"used {secret[:9]}\u200b{secret[9:]}", secret[9:]


@placed("full width")
def _(rng: random.Random) -> tuple[str, str]:
    secret = "".join(chr(ord(c) + 0xFEE0) for c in "sk_live_" + drawn(((AN, 24),), rng))
    return f"used {secret}", secret


def by_place(seed: int) -> Iterator[Case]:
    """Yield each of `PLACED` three times."""
    rng = random.Random(seed)
    for what, make in PLACED.items():
        for _ in range(3):
            yield Case(what, *make(rng))


def all_cases(seed: int) -> Iterator[Case]:
    """Yield all cases."""
    yield from by_form(seed)
    yield from by_name(seed)
    yield from by_place(seed)


if __name__ == "__main__":
    import sys
    from collections import Counter

    from spanpost.text.secrets import Scanner

    scanner = Scanner()
    total: Counter[str] = Counter()
    for make in (by_form, by_name, by_place):
        for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
            for case in make(seed):
                total[make.__name__] += 1
                if case.secret in scanner.scan(case.text):
                    total[make.__name__ + " missed"] += 1
                    print(f"{case.what}: {case.text[:160]!r}")
    print(total)
