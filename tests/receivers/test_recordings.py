"""Recorded files are identified by their content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from spanpost.model.observations import Part
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.recordings import UnreadableRecording, inflate, read_recording, tell_signal

CAPTURES = Path(__file__).parents[1] / "captures"
PB = CAPTURES / "pydantic-ai" / "ok" / "001-traces.pb"
SPAN = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "x", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
TRACES = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1"}]}]}]}
METRICS = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "sum": {"dataPoints": [{}, {}]}}]}]}]}


def write(path: Path, *documents: object) -> Path:
    path.write_text("\n".join(d if isinstance(d, str) else json.dumps(d) for d in documents))
    return path


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*/*/*.pb")), ids=lambda p: "-".join(p.parts[-3:]))
def test_a_body_is_known_by_its_content(path: Path) -> None:
    """Traces, logs and metrics begin alike in protobuf; their content distinguishes them."""
    assert tell_signal(path.read_bytes()) == path.stem.partition("-")[2]


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    """A traces body under another name is read as traces."""
    other = tmp_path / "metrics.json"
    other.write_bytes(PB.read_bytes())
    assert list(read_recording(other)) == [decode_traces(PB.read_bytes())]


def test_gzip_of_many_members_is_read_whole(tmp_path: Path) -> None:
    """The second member is not lost."""
    path = tmp_path / "x"
    lines = [json.dumps(TRACES) + "\n", json.dumps(LOGS) + "\n"]
    path.write_bytes(b"".join(gzip.compress(line.encode()) for line in lines))
    assert [o.part for d in read_recording(path) for o in d.observations] == [Part.ENDED, Part.LOG]


def test_json_lines_and_one_object(tmp_path: Path) -> None:
    """The Collector's file exporter's lines of any signal, and one pretty object, are read."""
    lines = list(read_recording(write(tmp_path / "a", TRACES, "", LOGS, METRICS)))
    assert [len(d.observations) for d in lines] == [1, 1, 0]
    assert lines[2].metric_points == 2
    (one,) = read_recording(write(tmp_path / "b", json.dumps(TRACES, indent=2)))
    assert len(one.observations) == 1


def test_half_a_last_line_is_counted(tmp_path: Path) -> None:
    """A killed exporter leaves half a line: the others are read, it is counted."""
    found = list(read_recording(write(tmp_path / "a", TRACES, LOGS, json.dumps(TRACES)[:40])))
    assert sum(len(d.observations) for d in found) == 2
    assert found[-1].dropped == {"bad_line": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "neither OTLP"),
        (b"hello world, this is text", "neither OTLP"),
        (b'{"a": 1}', "not OTLP: none of resourceSpans"),
        (b'{"resourceSpans": [', "not OTLP/JSON"),
        (b"[1, 2]", "an object was expected"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "truncated gzip"),
        (b"\x1f\x8b\x08garbage-garbage", "gzip"),
        (b"\x28\xb5\x2f\xfd0000", "zstd"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error names the file and the reason."""
    path = tmp_path / "bad.pb"
    path.write_bytes(content)
    with pytest.raises(UnreadableRecording, match=reason) as caught:
        list(read_recording(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"  \n", gzip.compress(b"", mtime=0)])
def test_an_empty_body_is_an_empty_request(tmp_path: Path, content: bytes) -> None:
    """An empty body is no error: OTLP's empty request has no bytes."""
    path = tmp_path / "empty.pb"
    path.write_bytes(content)
    assert list(read_recording(path)) == []


def test_missing_files_are_named(tmp_path: Path) -> None:
    """A missing file, and a directory, are refused alike."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UnreadableRecording, match="cannot be read"):
            list(read_recording(path))


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    """Inflation stops at the limit, over all members together."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"{" + b" " * 3_000_000) * 2)
    with pytest.raises(UnreadableRecording, match="grows beyond"):
        list(read_recording(path, max_bytes=4_000_000))
    assert inflate(gzip.compress(b"abc") + b"\0" * 8, 10) == b"abc"
