"""A gateway seals what it records: Go's own packages verify the log, checkpoints leave, and a change is named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.acceptance.gateway_process import spans
from tests.acceptance.gateways import run_gateway
from tests.acceptance.timestamps import Authority
from tests.conftest import ROOT, fresh_database
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "go")]
VERIFIER = ROOT / "tests" / "store" / "sealing" / "verifier"


@contextmanager
def receiving(authority: Authority) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Run a server for checkpoints and time stamps; yield its URL and what came, by path."""
    came: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = authority.reply(body) if self.path == "/time" else b"ok"
            came.append((f"{self.path} {self.headers.get('authorization', '')}".strip(), body))
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


def spanpost(dsn: str, home: Path, *arguments: str, fails: bool = False) -> str:
    """Run a command; return its standard output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPANPOST_")}
    environment |= {"DATABASE_URL": dsn, "HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "spanpost", *arguments]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stdout + done.stderr


async def ask(dsn: str, statement: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


def record(url: str, first: int, count: int) -> None:
    exporter = OTLPSpanExporter(f"{url}/v1/traces")
    assert exporter.export(spans(first, count)) is SpanExportResult.SUCCESS


def test_a_log_is_sealed_verified_and_published(server: str, tmp_path: Path) -> None:
    """Rows that a gateway recorded are sealed and signed; checkpoints leave by file, webhook, Slack and time stamp; Go
    verifies the exported log and that it continues an older checkpoint; a proof is checked without the database; the
    database's owner changes a row, and it is named.
    """
    program = tmp_path / "verifier"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=VERIFIER, check=True, timeout=300)
    authority, outside = Authority(tmp_path / "authority"), tmp_path / "outside.txt"
    with fresh_database(server) as dsn, receiving(authority) as (url, came):
        settings = {
            "SPANPOST_SEALING__ENABLED": "true",
            "SPANPOST_SEALING__ORIGIN": "audit.example.com",
            "SPANPOST_SEALING__INTERVAL": "PT0.1S",
            "SPANPOST_SEALING__SIGN_EVERY": "PT0S",
            "SPANPOST_SEALING__PUBLISH_EVERY": "PT1S",
            "SPANPOST_SEALING__FILE": str(outside),
            "SPANPOST_SEALING__WEBHOOK": f"{url}/hook",
            "SPANPOST_SEALING__WEBHOOK_TOKEN": "a-token-of-the-receiver",
            "SPANPOST_SEALING__SLACK_WEBHOOK": f"{url}/slack",
            "SPANPOST_SEALING__TIMESTAMP_URL": f"{url}/time",
            "SPANPOST_SEALING__TIMESTAMP_ROOTS": str(authority.roots),
        }
        with run_gateway(dsn, tmp_path, **settings) as gateway:

            def are_signed(count: int) -> bool:
                found = json.loads(spanpost(dsn, tmp_path, "audit", "logs", "--json"))
                own = [one for one in found if one["tenant"] == "default"]
                return bool(own) and own[0]["size"] >= count and own[0]["signed"] == own[0]["size"]

            record(gateway.url, 0, 300)
            eventually(lambda: are_signed(300))
            old = tmp_path / "old"
            old.write_text(spanpost(dsn, tmp_path, "audit", "checkpoints", "--last"))
            record(gateway.url, 300, 700)
            eventually(lambda: are_signed(1000))
            eventually(
                lambda: {"/hook Bearer a-token-of-the-receiver", "/slack", "/time"} <= {path for path, _ in came}
            )
            eventually(lambda: outside.exists() and "audit.example.com/default\n" in outside.read_text())
            assert gateway.stop() == 0
        assert "a-token-of-the-receiver" not in gateway.log

        keys = spanpost(dsn, tmp_path, "audit", "keys").split()
        key = next(one for one in keys if one.startswith("audit.example.com/default+"))
        text = spanpost(dsn, tmp_path, "audit", "verify", "--checkpoint", str(outside), "--key", key)
        assert text.startswith("valid; ")
        spanpost(dsn, tmp_path, "audit", "export", "log")
        done = subprocess.run(
            [program, tmp_path / "log" / "default", key, old], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("verified 1")

        event = asyncio.run(ask(dsn, "SELECT event_id FROM agent_events WHERE attributes ->> 'n' = '7'"))
        proof = tmp_path / "proof.json"
        proof.write_text(spanpost(dsn, tmp_path, "audit", "prove", str(event), "--content"))
        nowhere = "postgresql://nobody@127.0.0.1:1/none"
        shown = json.loads(spanpost(nowhere, tmp_path, "audit", "check-proof", str(proof), "--key", key))
        assert shown[0]["content"]["attributes"]["n"] == 7
        proof.write_text(proof.read_text().replace("chat", "chut"))
        assert "content" in spanpost(nowhere, tmp_path, "audit", "check-proof", str(proof), "--key", key, fails=True)
        proof.write_text(spanpost(dsn, tmp_path, "audit", "consistency", str(old), str(outside)))
        assert "valid" in spanpost(nowhere, tmp_path, "audit", "check-proof", str(proof), "--key", key)

        asyncio.run(ask(dsn, "UPDATE audit_rows SET status_message = 'well' WHERE event_id = $1 RETURNING 1", event))
        assert f"audit_rows {event} was changed" in spanpost(dsn, tmp_path, "audit", "verify", fails=True)
        assert (tmp_path / "data-seal-key").stat().st_mode & 0o777 == 0o600
