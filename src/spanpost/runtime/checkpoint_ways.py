"""Ways by which checkpoints of the sealed log leave the premises: a file, webhooks, a time stamp authority.

A checkpoint is sent again until it was accepted: a way may receive it twice.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from spanpost.http.redirects import NoRedirect
from spanpost.model.errors import ConfigError
from spanpost.settings.sealing import SealingSettings
from spanpost.store.sealing import checkpoints

#: Sends a checkpoint (a signed note); returns what came back, if it is a proof. Raises OSError or ValueError.
Way = Callable[[str], bytes | None]
_TIMEOUT: Final = 20.0
#: Largest answer that is read, bytes.
_LONGEST: Final = 1 << 20


def ways(section: SealingSettings) -> Mapping[str, Way]:
    """Return the ways of the settings. Raises `ConfigError` if a library is missing or a file cannot be read."""
    found: dict[str, Way] = {}
    if section.file is not None:
        found["file"] = partial(_to_file, section.file)
    if section.webhook is not None:
        token = section.webhook_token.get_secret_value() if section.webhook_token is not None else ""
        found["webhook"] = partial(_to_webhook, section.webhook, token)
    if section.slack_webhook is not None:
        found["slack_webhook"] = partial(_to_slack, section.slack_webhook.get_secret_value())
    if section.timestamp_url is not None and section.timestamp_roots is not None:
        found["timestamp_url"] = _stamp(section.timestamp_url, section.timestamp_roots)
    return found


def _to_file(path: Path, note: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{note}\n")
        file.flush()
        os.fsync(file.fileno())


def _to_webhook(url: str, token: str, note: str) -> None:
    found = checkpoints.read(note)
    body = {"origin": found.origin, "size": found.size, "root": base64.b64encode(found.root).decode(), "note": note}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    _post(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})


def _to_slack(url: str, note: str) -> None:
    found = checkpoints.read(note)
    text = f"Audit log `{found.origin}`: {found.size:,} leaves are sealed.\n```{note}```"
    _post(url, json.dumps({"text": text, "unfurl_links": False}).encode(), {"content-type": "application/json"})


def _stamp(url: str, roots: Path) -> Way:
    try:
        from cryptography.x509 import load_pem_x509_certificates
        from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response
        from rfc3161_client.errors import VerificationError
    except ImportError as error:
        raise ConfigError(
            f"sealing.timestamp_url: {error.name} is missing; install it with: pip install 'spanpost[timestamp]'"
        ) from None
    try:
        trusted = load_pem_x509_certificates(roots.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"sealing.timestamp_roots: {roots} has no certificates: {error}") from None

    def send(note: str) -> bytes:
        request = TimestampRequestBuilder().data(note.encode()).build()
        headers = {"content-type": "application/timestamp-query"}
        answer = _post(url, request.as_bytes(), headers)
        builder = VerifierBuilder(nonce=request.nonce, roots=trusted)
        try:
            response = decode_timestamp_response(answer)
            builder.build().verify_message(response, note.encode())
        except (ValueError, VerificationError) as error:
            raise ValueError(f"the authority's time stamp is not valid: {error}") from None
        return answer

    return send


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Post; raises OSError, without the URL, which may hold a secret."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            found: Any = answer.read(_LONGEST)
            return bytes(found)
    except urllib.error.HTTPError as error:
        raise OSError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        raise OSError(f"not reached: {error.reason}") from None
