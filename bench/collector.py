"""Cost of spanpost's exporter beside `otlp_http` in a Collector: processor time and bytes on the wire for each span.

python bench/collector.py
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from options import parse
from table import tell

from spanpost.testing.ports import free_port

ROOT = Path(__file__).parents[1]
BATCH = 100
#: Words of prompts: not a text that compresses to nothing.
WORDS = [f"{head}{tail}" for head in ("be", "con", "dis", "for", "in", "out", "re", "un") for tail in ("act", "cast",
         "ed", "er", "fort", "ing", "ly", "ness", "port", "side", "tend", "view", "ward", "work")]  # fmt: skip
QUEUE = "{sizer: bytes, queue_size: 536870912, block_on_overflow: true, num_consumers: 4, %s: {sizer: items, min_size: 512, flush_timeout: 200ms}}"  # noqa: E501
WAYS = {
    "otlp_http": ("otlp_http", ""),
    "spanpost, content and strangers kept": ("spanpost", "content: keep, strangers: keep, startup_check: 'off', "),
    "spanpost": ("spanpost", "startup_check: 'off', "),
}


def bodies(count: int, load: str) -> list[bytes]:
    """Return requests: of an agent's model calls with their words, or of a web service."""
    found, chance = [], random.Random(7)
    for start in range(0, count, BATCH):
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in range(start, start + BATCH):
            now = 1_700_000_000_000_000_000 + number * 1000
            span = spans.add(
                trace_id=(number // 50 + 1).to_bytes(16, "big"), span_id=(number + 1).to_bytes(8, "big"),
                name="chat gpt-4o" if load == "agent" else "GET /items/{id}",
                start_time_unix_nano=now, end_time_unix_nano=now + 500,
            )  # fmt: skip
            agent: dict[str, Any] = {
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": number,
                "gen_ai.usage.output_tokens": number % 90, "gen_ai.response.id": f"r-{number}",
                "gen_ai.input.messages": " ".join(chance.choices(WORDS, k=300)),
                "gen_ai.output.messages": " ".join(chance.choices(WORDS, k=50)),
            }  # fmt: skip
            web: dict[str, Any] = {
                "http.request.method": "GET", "url.full": f"https://shop.example/items/{number}?q={number * 7919}",
                "server.address": "shop.example", "http.route": "/items/{id}", "http.response.status_code": 200,
                "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)", "client.address": f"10.0.{number % 250}.7",
            }  # fmt: skip
            for key, value in (agent if load == "agent" else web).items():
                added = span.attributes.add(key=key).value
                if isinstance(value, int):
                    added.int_value = value
                else:
                    added.string_value = value
        found.append(request.SerializeToString())
    return found


class Sink:
    """A server that counts the bytes and drops them."""

    def __init__(self) -> None:
        self.bytes = 0
        lock = threading.Lock()

        class Taking(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(taking) -> None:  # noqa: N805
                size = int(taking.headers["content-length"])
                taking.rfile.read(size)
                with lock:
                    self.bytes += size
                taking.send_response(200)
                taking.send_header("content-type", "application/x-protobuf")
                taking.send_header("content-length", "0")
                taking.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def used(pid: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(binary: str, way: str, requests: list[bytes], directory: Path) -> tuple[float, float]:
    """Return µs of the Collector's processor time and bytes on the wire, of each span."""
    kind, more = WAYS[way]
    sink, port = Sink(), free_port()
    batch = QUEUE % "batch"
    config = directory / "config.yaml"
    config.write_text(
        f"receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n"
        f"exporters: {{{kind}: {{{more}endpoint: 'http://127.0.0.1:{sink.server.server_port}', compression: gzip, "
        f"sending_queue: {batch.replace('{sizer: bytes', '{wait_for_result: false, sizer: bytes', 1)}}}}}\n"
        f"service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [{kind}]}}}}, "
        "telemetry: {logs: {level: error}, metrics: {level: none}}}\n"
    )
    process = subprocess.Popen([binary, "--config", str(config)])
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.connect()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the Collector ended") from None
                time.sleep(0.05)
        began = used(process.pid)
        for body in requests:
            connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"the Collector answered {answer.status}")
        process.terminate()
        last = used(process.pid)
        while process.poll() is None:
            try:
                last = used(process.pid)
            except (OSError, IndexError):
                break
            time.sleep(0.01)
        process.wait(30)
        spans = len(requests) * BATCH
        return (last - began) / spans * 1e6, sink.bytes / spans
    finally:
        if process.poll() is None:
            process.kill()
        sink.server.shutdown()


def main() -> None:
    """Measure each way and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=50_000, metavar="N", help="spans of a round (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="interleaved rounds, of which the least counts"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parse(parser, {"spans": 2000, "rounds": 1})
    found = subprocess.run(
        [ROOT / "scripts" / "build-collector", "--find"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise SystemExit("bench/collector.py: the Collector is missing; scripts/build-collector builds it")
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for load in ("agent", "web"):
            requests = bodies(asked.spans, load)
            took: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for _ in range(asked.rounds):
                for way in WAYS:
                    took[way].append(measure(found.stdout.strip(), way, requests, Path(directory)))
            base = min(took["otlp_http"])
            for way in WAYS:
                processor, wire = min(took[way])
                rows.append(
                    {
                        "way": f"{load}: {way}",
                        "processor": processor,
                        "times": processor / max(base[0], 1e-9),
                        "bytes": wire,
                        "part": wire / base[1],
                    }
                )
    headings = {"way": "spans and exporter", "processor": "µs CPU per span", "times": "over otlp_http",
                "bytes": "bytes per span", "part": "over otlp_http "}  # fmt: skip
    tell(rows, headings, as_json=asked.json, form=".2f")


if __name__ == "__main__":
    main()
