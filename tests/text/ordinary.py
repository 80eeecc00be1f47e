"""Ordinary texts without secrets, found on every machine with this repository and its packages.

Attribute values of recorded runs, package descriptions, source lines, log lines and stack traces.
"""

from __future__ import annotations

import inspect
import logging
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from spanpost.receivers.recordings import read_recording

HERE = Path(__file__).parents[1]
#: Modules of the standard library and of packages that handle passwords, tokens and keys.
MODULES = """
    argparse getpass netrc secrets hmac ssl smtplib ftplib imaplib http.client http.cookies http.cookiejar
    urllib.request urllib.parse tokenize token hashlib email.message configparser logging.config
    asyncpg.connection asyncpg.connect_utils aiohttp.client slack_sdk.web.client
    slack_sdk.oauth.installation_store.models.installation starlette.middleware.sessions
    fastapi.security.oauth2 fastapi.security.api_key fastapi.security.http httpx requests.auth
    requests.sessions joserfc.jwt joserfc.jwk sqlalchemy.engine.url pydantic.types pydantic.networks
    redis.connection kombu.utils.url celery.app.base mcp.server.auth.provider uvicorn.config
    opentelemetry.exporter.otlp.proto.http.trace_exporter urllib3.util.request urllib3.connection
    playwright.sync_api cryptography.fernet
"""


def captured() -> Iterator[str]:
    """Yield the texts of every recorded span, event and record."""
    seen: set[str] = set()
    for path in sorted((HERE / "captures").rglob("*.pb*")):
        try:
            bodies = list(read_recording(path))
        except ValueError:
            continue
        for body in bodies:
            for o in body.observations:
                for text in (
                    o.name,
                    o.status_message,
                    *_texts(o.attributes),
                    *_texts(o.body),
                    *_texts(o.origin.resource),
                ):
                    if len(text) > 5 and text not in seen:
                        seen.add(text)
                        yield text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def described() -> Iterator[str]:
    """Yield the paragraphs of the installed packages' descriptions."""
    for package in sorted(metadata.distributions(), key=lambda d: d.metadata["Name"] or ""):
        text = str(package.metadata.get_payload() or package.metadata.get("Description") or "")
        for paragraph in re.split(r"\n\s*\n", text):
            if 20 < len(paragraph.strip()) < 4000:
                yield paragraph.strip()


def sources() -> Iterator[str]:
    """Yield lines of source code."""
    for name in MODULES.split():
        try:
            source = inspect.getsource(import_module(name))
        except (ImportError, OSError, TypeError):
            continue
        for line in source.splitlines():
            if len(line.strip()) > 8:
                yield line.strip()


def documents() -> Iterator[str]:
    """Yield the paragraphs of this project's documents, and its commit messages."""
    for path in sorted(HERE.parent.glob("*.md")):
        yield from (p.strip() for p in re.split(r"\n\s*\n", path.read_text()) if len(p.strip()) > 20)
    log = subprocess.run(
        ["git", "log", "-400", "--format=%H %an %s%n%b"], cwd=HERE, capture_output=True, text=True, check=False
    )
    yield from (line for line in log.stdout.splitlines() if len(line) > 20)


def logged() -> Iterator[str]:
    """Yield log lines and stack traces as Python makes them."""
    form = logging.Formatter("%(asctime)s %(levelname)s [%(name)s:%(lineno)d] %(message)s")
    says = (
        "GET /v1/items?page=2&limit=50 HTTP/1.1 200 1532 0.042",
        "user 4711 logged in with password authentication from 10.0.0.7", "token count 1532 exceeds max_tokens=1024",
        "refreshing token for tenant acme, expires in 3600 s", "cache key user:4711:profile missed",
        "loaded 25 secrets from vault path secret/data/app", "password reset mail was sent to ann@example.com",
        "auth=none scheme=https", "commit a94a8fe5ccb19ba61c4c0873d391e987982fbbd3 of acme/shop was checked out",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7",
        "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 was pulled",
        "session.id=5f2b9c1e-7a4d-4f0e-9b1a-2c3d4e5f6a7b started",
        "retrying in 2.0 s (attempt 3 of 5): connection refused", "invalid api key supplied",
        "401 Unauthorized: missing bearer token",
        "model=gpt-4o-mini-2024-07-18 input_tokens=812 output_tokens=120 finish=stop",
        "etag W/\"5e8c1b2f-1a2b\" last-modified Tue, 03 Nov 2026",
        "POST https://api.openai.com/v1/chat/completions 200 OK", "SELECT id, token_type FROM sessions WHERE key = $1",
    )  # fmt: skip
    for number, said in enumerate(says * 3):
        yield form.format(logging.LogRecord(f"app.{number}", logging.INFO, "app.py", number, said, (), None))
    for broken in (
        "int('x')",
        "{}['token']",
        "open('/run/secrets/none')",
        "import_nothing()",
        "[].pop()",
        "None.password",
    ):
        try:
            eval(broken)
        except Exception:
            yield traceback.format_exc()


def all_texts() -> Iterator[tuple[str, str]]:
    """Yield each text with its source."""
    for source in (captured, described, sources, documents, logged):
        yield from ((source.__name__, text) for text in source())


if __name__ == "__main__":
    from collections import Counter

    from spanpost.text.secrets import Scanner

    scanner = Scanner()
    total: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for source, text in all_texts():
        total[source] += 1
        if (found := scanner.scan(text)) != text:
            hits[source] += 1
            for m in re.finditer(r"\[redacted:[^\]]*\]", found):
                if len(sys.argv) > 1:
                    print(source, "|", found[max(0, m.start() - 70) : m.end() + 20].replace("\n", "⏎"))
                if len(sys.argv) > 1 and len(text) < 300:
                    print("      ", repr(text))
    print(total, hits, scanner.found)
