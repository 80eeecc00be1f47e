"""Any query is answered or refused: never a 500, never a 503, never a traceback."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.errors import field_of
from tests.interactions.api.served import Served
from tests.thorough import thorough

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

#: Times at the calendar's edges and beyond, with offsets that lead beyond.
TIMES = (
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "-0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z", "1969-12-31T23:59:59-00:01", "infinity", "-infinity", "now",
)  # fmt: skip
NUMBERS = (
    "-1",
    "0",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "1e9",
    "1" * 400,
    "NaN",
    "-0",
    "٣",
    "1_0",
    " 1",
)
TEXTS = (
    "\0",
    "a\0b",
    "\ud800",
    "\uffff",
    "🦊",
    "%",
    "_",
    "\\",
    "'",
    '"',
    "x" * 5_000,
    "",
    " ",
    "../..",
    "{}",
    "\x1b[2J",
)
IDS = ("0" * 32, "f" * 32, "00000000-0000-0000-0000-000000000000", "{" + "0" * 30 + "}")


def forged(**said: Any) -> str:
    """Return a cursor as a forger writes it."""
    return urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


_time = st.sampled_from(TIMES) | st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat())
_number = st.sampled_from(NUMBERS) | st.integers().map(str)
_id = st.sampled_from(IDS) | st.uuids().map(str) | st.text(max_size=40)
_cursors = st.one_of(
    st.builds(forged, started_at=_time | st.none(), uid=_id),
    st.builds(forged, requested_at=_time, key=_id),
    st.builds(forged, at=_time, source=st.integers() | st.integers(0, 2), id=_id),
    st.builds("{}.{}.{}".format, _number, _number, _id),
)
values = st.one_of(
    _cursors, _time, _number, _id, st.sampled_from(TEXTS), st.text(max_size=30), st.sampled_from(["true", "open"])
)


@cache
def operations(url: str) -> list[tuple[str, list[str]]]:
    """Return each readable path, with the names of its query parameters."""
    document = httpx.get(f"{url}/api/openapi.json", headers={"authorization": "Bearer spt_auditor"}).json()
    return [
        (path, [one["name"] for one in method["get"].get("parameters", ()) if one["in"] == "query"])
        for path, method in document["paths"].items()
        if "get" in method
    ]


@cache
def client_of(served: Served) -> httpx.Client:
    """Return one client for all examples."""
    return served.as_of("auditor")


@pytest.mark.slow
@thorough(400)
@given(data=st.data())
def test_no_query_breaks_the_api(served: Served, data: st.DataObject) -> None:
    """Any values for any parameters of any path are answered, or refused as the caller's mistake."""
    path, names = data.draw(st.sampled_from([*operations(served.url), ("/control/v1/approvals/q", ["after", "mark"])]))
    asked = data.draw(st.lists(st.tuples(st.sampled_from(names), values), max_size=4)) if names else []
    ref = data.draw(st.sampled_from([*IDS, "nobody"]) | st.text(min_size=1, max_size=20))
    url = path.replace("{id}", quote(ref, safe="", errors="replace")).replace("{key}", "q")
    query = "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in asked)
    with client_of(served).stream("GET", f"{url}?{query}", headers={"accept-encoding": "identity"}) as answer:
        assert answer.status_code < 500, f"{url}?{query}"
        if answer.status_code >= 400:
            answer.read()
            assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("at", TIMES)
def test_forged_cursors(served: Served, at: str) -> None:
    """A cursor with an impossible time is a page or a 422 in the API's own words, in each list."""
    task = served.task("forged")
    client = served.as_of("viewer")
    for path, name, cursor in (
        ("/api/tasks", "cursor", forged(started_at=at, uid=IDS[2])),
        ("/api/approvals", "cursor", forged(requested_at=at, key=IDS[2])),
        (f"/api/tasks/{task['trace']:032x}/timeline", "after", forged(at=at, source=0, id=IDS[2])),
    ):
        answer = client.get(path, params={name: cursor})
        assert answer.status_code in (200, 422)
        if answer.status_code == 422:
            assert answer.json()["message"] == "is no cursor of this list; leave it out for the first page"
            assert field_of(answer.json()) == name


@pytest.mark.parametrize("text", [r"\ud800", r"\u0000", r"\udfff\ud800", r"\uffff", "1e400"])
def test_bodies_that_no_column_holds(served: Served, text: str) -> None:
    """Half of a surrogate pair, NUL and the like in a body are accepted as text or refused as the caller's
    mistake.
    """
    task = served.task("bodies")
    for path, field in (
        (f"/api/tasks/{task['trace']:032x}/message", "text"),
        (f"/api/tasks/{task['trace']:032x}/mute", "comment"),
    ):
        answer = served.as_of("operator").post(
            path,
            content=f'{{"{field}": "{text}"}}',
            headers={"content-type": "application/json", "idempotency-key": b"\xe9\xff"},
        )
        assert answer.status_code < 500
