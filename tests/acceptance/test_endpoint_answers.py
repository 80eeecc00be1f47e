"""Every line of docs/reference/http-answers.md, tried with a running gateway."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanpost.http.tokens import hash_of, new_token
from spanpost.model.observations import Repair
from tests.acceptance.gateway_process import Gateway, query
from tests.conftest import ROOT, fresh_database
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]
PAGE = (ROOT / "docs" / "reference" / "http-answers.md").read_text()
LINES = {
    what: (int(status), outcome)
    for what, status, outcome in re.findall(r"^\| (.+?) \| (\d{3}) \| (.+?) \|$", PAGE, re.M)
}
FLAGS = {name.lower(): bit for name, bit in vars(Repair).items() if name.isupper()}
TOKEN = new_token()
MOST = 3_000_000
PROTOBUF, JSON = "application/x-protobuf", "application/json"
NOW = 1_790_000_000 * 10**9


def span(name: str, **attributes: Any) -> Span:
    made = Span(
        name=name, trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=NOW, end_time_unix_nano=NOW + 10**9
    )
    for key, value in {"gen_ai.operation.name": "chat", **attributes}.items():
        made.attributes.append(
            KeyValue(key=key, value=value if isinstance(value, AnyValue) else AnyValue(string_value=value))
        )
    return made


def body(*spans: Span) -> bytes:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return bytes(request.SerializeToString())


def raw_json(name: str, attributes: str = "", **fields: str) -> bytes:
    """Return a request whose attributes and fields are written by hand, so that they may be odd."""
    fixed = {
        "traceId": f'"{"a" * 32}"',
        "spanId": f'"{"b" * 16}"',
        "startTimeUnixNano": f'"{NOW}"',
        "endTimeUnixNano": f'"{NOW}"',
    }
    listed = ", ".join(f'"{key}": {value}' for key, value in {"name": f'"{name}"', **fixed, **fields}.items())
    kind = '{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}'
    more = f", {attributes}" if attributes else ""
    return (
        f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{{listed}, "attributes": [{kind}{more}]}}]}}]}}]}}'.encode()
    )


def nested(depth: int) -> AnyValue:
    value = AnyValue(string_value="deep")
    for _ in range(depth):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    return value


def changed(one: Span, **fields: Any) -> Span:
    for field, value in fields.items():
        setattr(one, field, value)
    return one


class Tried:
    """A gateway that requires a token, and its answers."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        host, _, port = gateway.http.removeprefix("http://").partition(":")
        self.address = host, int(port)
        self.endless = socket.create_connection(self.address)
        self.endless.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: a\r\n")

    def post(
        self, sent: Any, kind: str = PROTOBUF, path: str = "/v1/traces", method: str = "POST", **headers: str
    ) -> int:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        given = {"authorization": f"Bearer {TOKEN}", **({"content-type": kind} if kind else {})}
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        try:
            connection.request(method, path, sent, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200 and kind == JSON:
                assert json.loads(said)["message"]
            return answer.status
        finally:
            connection.close()

    def raw(self, *pieces: bytes) -> int:
        with socket.create_connection(self.address, timeout=30) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return status_of(connection)

    def never_ending(self) -> int:
        with self.endless:
            self.endless.settimeout(30)
            return status_of(self.endless)


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(100).split()[1])


def get(path: str, *lines: str) -> bytes:
    """Return a GET request, with a token and these header lines."""
    return "\r\n".join(
        (f"GET {path} HTTP/1.1", f"authorization: Bearer {TOKEN}", *lines, "connection: close", "", "")
    ).encode()


def posted(*lines: str) -> bytes:
    """Return a page's request: a correct one, and these header lines."""
    return (
        HEAD + "".join(f"{line}\r\n" for line in lines).encode() + b'content-length: 21\r\n\r\n{"resourceSpans": []}\n'
    )


HEAD = (
    b"POST /v1/traces HTTP/1.1\r\nhost: a\r\nauthorization: Bearer "
    + TOKEN.encode()
    + b"\r\ncontent-type: application/json\r\n"
)
Case = Callable[[Tried, str], int]
CASES: dict[str, Case] = {
    "no host, in HTTP/1.1": lambda t, n: t.raw(get("/health/live")),
    "two hosts": lambda t, n: t.raw(get("/health/live", "host: a", "host: a")),
    "an invalid host: `127.0.0.1:80@evil.example`": lambda t, n: t.raw(get("/", "host: 127.0.0.1:80@evil.example")),
    "another host in the target than in `Host`": lambda t, n: t.raw(get("http://evil.example/", "host: 127.0.0.1")),
    "a foreign host, if no token is required": lambda t, n: t.raw(get("/api/login", "host: evil.example")),
    "a foreign host, with the required token": lambda t, n: t.raw(posted()),
    "`Origin` of another page, with or without a token": lambda t, n: t.raw(posted("origin: http://evil.example")),
    "`Origin: null`, or two": lambda t, n: t.raw(posted("origin: null")),
    "`Sec-Fetch-Site` of another site, if no page is opened": lambda t, n: t.raw(
        get("/health/live", "host: 127.0.0.1", "sec-fetch-site: cross-site")
    ),
    "`text/plain` to `/alerts` or `/control`": lambda t, n: t.post(b'{"alerts": []}', "text/plain", "/alerts/grafana"),
    "a body longer than `max_body`, by its length": lambda t, n: t.raw(HEAD + b"content-length: 99999999\r\n\r\n"),
    "a body longer than `max_body`, in chunks": lambda t, n: t.raw(
        HEAD + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n" % (MOST + 1) + b" " * (MOST + 1) + b"\r\n"
    ),
    "protobuf with more than one element in 12 bytes, beyond 16 KiB": lambda t, n: t.post(
        body(span(n)) + b"\x0a\x00" * 10_000
    ),
    "JSON with more than one object in 12 bytes, beyond 16 KiB": lambda t, n: t.post(
        b'{"resourceSpans":[' + b"{}," * 10_000 + b"{}]}", JSON
    ),
    "a resource of more than 128 KiB in a body of more than 384 KiB": lambda t, n: t.post(
        of_large_resource(span(n, pad="x" * 300_000))
    ),
    "gzip of more than 1,024 members": lambda t, n: t.post(
        gzip.compress(b"") * 1024 + gzip.compress(body(span(n))), content_encoding="gzip"
    ),
    "gzip that inflates beyond `max_body`": lambda t, n: t.post(
        gzip.compress(bytes(20 * MOST)), content_encoding="gzip"
    ),
    "an encoding other than gzip, deflate and zstd": lambda t, n: t.post(body(span(n)), content_encoding="br"),
    "gzip that ends early": lambda t, n: t.post(gzip.compress(body(span(n)))[:-9], content_encoding="gzip"),
    "gzip of several members": lambda t, n: t.post(
        gzip.compress(body(span(n))) + gzip.compress(body(changed(span(n), span_id=b"2" * 8))), content_encoding="gzip"
    ),
    "protobuf declared as JSON": lambda t, n: t.post(body(span(n)), JSON),
    "JSON declared as protobuf": lambda t, n: t.post(raw_json(n)),
    "no content type": lambda t, n: t.post(body(span(n)), ""),
    "another content type": lambda t, n: t.post(body(span(n)), "text/plain"),
    "bytes that are not protobuf": lambda t, n: t.post(b"\xff\xfe nonsense"),
    "protobuf that ends early": lambda t, n: t.post(body(span(n))[:-5]),
    "an empty body": lambda t, n: t.post(b""),
    "JSON nested without limit": lambda t, n: t.post(b"[" * 1_000_000, JSON),
    "JSON with a byte order mark": lambda t, n: t.post(b"\xef\xbb\xbf" + raw_json(n), JSON),
    "JSON with unknown fields, integers as text, enums by name": lambda t, n: t.post(
        raw_json(n, '{"key": "k", "value": {"intValue": "7"}}', kind='"SPAN_KIND_CLIENT"', unheardOf="[1]"), JSON
    ),
    "headers that never end": lambda t, n: t.never_ending(),
    "headers of more than 64 KiB": lambda t, n: t.raw(HEAD + b"a: " + b"x" * 70_000),
    "both a length and chunks": lambda t, n: t.raw(
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "an unknown path": lambda t, n: t.post(body(span(n)), path="/v1/spans"),
    "a path with an additional slash": lambda t, n: t.post(body(span(n)), path="/v1/traces/"),
    "GET instead of POST": lambda t, n: t.post(None, method="GET"),
    "no token, if tokens are required": lambda t, n: t.post(body(span(n)), authorization=""),
    "an unknown token": lambda t, n: t.post(body(span(n)), authorization=f"Bearer {TOKEN}x"),
    "a token in the URL": lambda t, n: t.post(body(span(n)), path=f"/v1/traces?access_token={TOKEN}"),
    "a string that is not UTF-8": lambda t, n: t.post(body(span(n, note="caf@")).replace(b"caf@", b"caf\xe9")),
    "a value nested 20 deep": lambda t, n: t.post(body(span(n, deep=nested(20)))),
    "a value nested deeper than protobuf's own limit": lambda t, n: t.post(too_deep(n)),
    "60,000 values in one span, in protobuf, beside another span": lambda t, n: t.post(
        body(span(n), span(f"{n} heavy", k=wide(60_000)))
    ),
    "60,000 values in one span, in JSON, beside another span": lambda t, n: t.post(
        raw_json(n).replace(
            b'"spans": [', b'"spans": [{"name": "heavy", "attributes": [%s]}, ' % b", ".join([b'{"key": "k"}'] * 60_000)
        ),
        JSON,
    ),
    "60,000 values in the only span": lambda t, n: t.post(body(span(n, k=wide(60_000)))),
    "a number of 5,000 digits in JSON": lambda t, n: t.post(
        raw_json(n, '{"key": "k", "value": {"intValue": ' + "9" * 5000 + "}}"), JSON
    ),
    "ids of zeros, too short or missing": lambda t, n: t.post(
        body(
            changed(span(n), trace_id=bytes(16), span_id=bytes(8)),
            changed(span(n, k="2"), trace_id=b"\1\2\3\4\5", span_id=b"\1"),
            changed(span(n, k="3"), trace_id=b"", span_id=b""),
        )
    ),
    "the same span twice": lambda t, n: t.post(body(span(n), span(n))),
    "the same ids with other content": lambda t, n: t.post(body(span(n), span(n, more="1"))),
    "a span that is its own parent": lambda t, n: t.post(body(changed(span(n), parent_span_id=b"s" * 8))),
    "spans that are each other's parents": lambda t, n: t.post(
        body(
            *[
                changed(span(n), span_id=one * 8, parent_span_id=other * 8)
                for one, other in ((b"1", b"2"), (b"2", b"1"))
            ]
        )
    ),
    "2,000 agents, each the parent of the next": lambda t, n: t.post(body(*nested_agents(n, 2000))),
    "start and end 0": lambda t, n: t.post(body(changed(span(n), start_time_unix_nano=0, end_time_unix_nano=0))),
    "an end before the start": lambda t, n: t.post(body(changed(span(n), end_time_unix_nano=NOW - 10**9))),
    "a time in the year 2554": lambda t, n: t.post(body(changed(span(n), end_time_unix_nano=2**64 - 1))),
    "1,000 attributes": lambda t, n: t.post(body(span(n, **{f"k{i}": "v" for i in range(1000)}))),
    "10,000 attributes": lambda t, n: t.post(body(span(n, **{f"k{i}": "v" for i in range(10_000)}))),
    "an attribute of a megabyte": lambda t, n: t.post(body(span(n, k="é" * 500_000))),
    "NUL in a value and in a key": lambda t, n: t.post(body(span(n, **{"a\0b": "c\0d"}))),
    "half of a surrogate pair in JSON": lambda t, n: t.post(
        raw_json(n, r'{"key": "k", "value": {"stringValue": "a\ud800b"}}'), JSON
    ),
    "NaN and infinity": lambda t, n: t.post(
        body(span(n, a=AnyValue(double_value=float("nan")), b=AnyValue(double_value=float("-inf"))))
    ),
    "an integer of more than 64 bits in JSON": lambda t, n: t.post(
        raw_json(n, '{"key": "k", "value": {"intValue": 1180591620717411303424}}'), JSON
    ),
    "a key twice in JSON": lambda t, n: t.post(
        raw_json(n, '{"key": "k", "key": "l", "value": {"stringValue": "v"}}'), JSON
    ),
    "bytes as a value": lambda t, n: t.post(body(span(n, k=AnyValue(bytes_value=b"\0\xff")))),
    "an empty value, arrays of mixed types": lambda t, n: t.post(body(span(n, k=AnyValue(), l=mixed()))),
    "a task id of 9,000 characters": lambda t, n: t.post(body(span(n, **{"agent.task.id": "x" * 9000}))),
    "SQL, escape sequences and line breaks in every text": lambda t, n: t.post(
        body(span(n, **{"'; DROP TABLE agent_events; --": "\x1b[2J\r\n'); --", "agent.task.name": "\"'$$\\\n"}))
    ),
}
#: The number of rows of a recorded case, if it is not one.
ROWS = {
    "ids of zeros, too short or missing": 3,
    "gzip of several members": 2,
    "the same ids with other content": 2,
    "spans that are each other's parents": 2,
    "2,000 agents, each the parent of the next": 2000,
}


def nested_agents(name: str, count: int) -> list[Span]:
    ids = [b"", *(number.to_bytes(8, "big") for number in range(1, count + 1))]
    made = []
    for i in range(1, count + 1):
        said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"agent {i}"}
        made.append(changed(span(name, **said), span_id=ids[i], parent_span_id=ids[i - 1]))
    return made


def mixed() -> AnyValue:
    value = AnyValue()
    value.array_value.values.extend(
        [AnyValue(int_value=1), AnyValue(string_value="a"), AnyValue(), AnyValue(bool_value=True)]
    )
    return value


def wide(count: int) -> AnyValue:
    value = AnyValue()
    value.array_value.values.extend([AnyValue(int_value=1)] * count)
    return value


def of_large_resource(one: Span) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="k").value.string_value = "x" * 140_000
    resource.scope_spans.add().spans.append(one)
    return bytes(request.SerializeToString())


def too_deep(name: str) -> bytes:
    """Return a request that protobuf's writer could make, and its reader refuses."""

    def wrapped(tag: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes((size & 127 | 128,)), size >> 7
        return bytes((tag,)) + length + bytes((size,)) + content

    value = b"\x0a\x01x"
    for _ in range(500):
        value = wrapped(0x2A, wrapped(0x0A, value))  # array_value { values }
    whole = span(name).SerializeToString() + wrapped(0x4A, b"\x0a\x01k" + wrapped(0x12, value))
    return wrapped(0x0A, wrapped(0x12, wrapped(0x12, whole)))


@pytest.fixture(scope="module")
def tried(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with fresh_database(server) as dsn:
        toml = (
            f'[gateway]\njournal_bytes = 0\nmax_body = {MOST}\n[[gateway.tokens]]\ntenant = "a"\n'
            f'sha256 = ["{hash_of(TOKEN)}"]\n'
        )
        gateway = Gateway(dsn, tmp_path_factory.mktemp("gateway"), toml)
        try:
            yield Tried(gateway.ready())
            assert gateway.end() == 0
            assert "Traceback" not in "\n".join(gateway.lines)
            assert TOKEN not in "\n".join(gateway.lines)
        finally:
            gateway.kill()


def test_the_page_has_every_case_and_no_other() -> None:
    """The cases are those of the page."""
    assert set(LINES) == set(CASES)
    assert dict(re.findall(r"`(\w+)` (\d+)", PAGE)) == {name: str(bit) for name, bit in FLAGS.items()}


@pytest.mark.proves("one-bad-span", "equal-keys", "mixed-arrays", "sql")
@pytest.mark.parametrize("what", CASES)
def test_each_case_is_answered_as_the_page_says(what: str, tried: Tried) -> None:
    """Status, quarantine, rows and flags are those of the page."""
    dsn = tried.gateway.dsn
    status, outcome = LINES[what]
    name = f"chat {list(CASES).index(what)}"
    kept = query(dsn, "SELECT count(*) FROM quarantine")[0][0]
    # A busy machine may ask a sender to repeat.
    assert eventually(lambda: CASES[what](tried, name), lambda found: status == 503 or found != 503) == status
    wanted = ROWS.get(what, 1) if status == 200 and outcome not in ("an empty request", "accepted") else 0
    # On a busy machine a body is acknowledged from the journal, and its rows come after the answer.
    statement = f"SELECT repairs FROM agent_events WHERE name = '{name}'"
    rows = eventually(lambda: query(dsn, statement), lambda rows: len(rows) >= wanted)
    flags = sum(FLAGS[flag] for flag in re.findall(r"`(\w+)`", outcome))
    assert [row[0] or 0 for row in rows] == [flags] * wanted
    expected = kept + (1 if outcome.startswith("kept") else 0)
    statement = "SELECT count(*) FROM quarantine"
    assert eventually(lambda: query(dsn, statement)[0][0], lambda count: count >= expected) == expected
