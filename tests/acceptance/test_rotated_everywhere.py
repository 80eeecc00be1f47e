"""A secret that several workers share is replaced by files and a signal, while requests come in."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import signal
import threading
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import Gateway, Start, request
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]

ONE, TWO = "one-one-one-one-one", "two-two-two-two-two"
WORKERS = 2
#: Requests, each by a connection of its own: all would reach one worker once in a million runs.
MANY = 20
TOML = """
[webhooks.providers.own]
scheme = "github"
"""


def send(gateway: Gateway, secret: str, id: str) -> int:
    """Send one request over a new connection; return the status."""
    body = json.dumps({"id": id}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-hub-signature-256": signature}
    return request(f"{gateway.http}/hooks/own", body, **headers)[0]


def test_a_secret_of_all_workers_is_replaced_under_load(start: Start, tmp_path: Path) -> None:
    """With the old secret still valid beside the new one, no request is refused and each has its one order; without
    it, every worker refuses the old one.
    """
    files = tmp_path / "secrets"
    files.mkdir()

    def say(secret: str, old: str = "") -> None:
        names = {"SECRET": secret, "OLD_SECRET": old}
        for name, value in names.items():
            path = files / f"SPANPOST_WEBHOOKS__PROVIDERS__OWN__{name}"
            path.write_text(value) if value else path.unlink(missing_ok=True)

    say(ONE)
    ports = ("--workers", str(WORKERS), "--http-port", "0", "--grpc-port", "0")
    gateway = start(TOML, *ports, SPANPOST_SECRETS=str(files)).ready()
    gateway.hear("2 workers share")
    read = 0

    def reload() -> None:
        nonlocal read
        read += WORKERS
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: sum("settings read again" in line for line in gateway.lines) >= read)

    current, sent, answers, stop = [ONE], list[str](), list[int](), threading.Event()

    def load() -> None:
        while not stop.is_set():
            sent.append(secrets.token_hex(8))
            answers.append(send(gateway, current[0], sent[-1]))

    sender = threading.Thread(target=load, daemon=True)
    sender.start()
    say(TWO, ONE)
    reload()
    current[0] = TWO
    before = len(answers)
    eventually(lambda: len(answers) > before + 5)
    say(TWO)
    reload()
    stop.set()
    sender.join(60)
    assert {send(gateway, ONE, str(number)) for number in range(MANY)} == {401}
    assert {send(gateway, TWO, str(number)) for number in range(MANY)} == {202}
    assert set(answers) == {202}
    rows = gateway.rows("SELECT convert_from(body, 'utf8')::jsonb->>'id' FROM launch_orders")
    assert sorted(id for (id,) in rows) == sorted([*sent, *map(str, range(MANY))])
    assert gateway.end() == 0
