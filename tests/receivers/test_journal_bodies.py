"""The bodies of the journal's rows: the requests, unreadable without the key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from spanpost.http.shares import Sender
from spanpost.model.observations import Observation
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.request_parts import Body, RequestPart
from tests.receivers.endpoints import traces

KEY = "sk-proj-" + "a1B2c3D4" * 6


@pytest.fixture(scope="module")
def cipher() -> JournalCipher:
    return JournalCipher(["a secret of the settings"])


def parts(
    *bodies: bytes, tenant: str = "default", signal: str = "traces", is_json: bool = False
) -> list[RequestPart[Body]]:
    """Return requests that wait to be written."""
    loop = asyncio.new_event_loop()
    made = [
        RequestPart(Sender(tenant, ""), Body(signal, is_json, body), 1, len(body), loop.create_future())
        for body in bodies
    ]
    loop.close()
    return made


def contents(cipher: JournalCipher, waiting: Sequence[RequestPart[Body]]) -> list[list[Observation]]:
    """Return the observations of each row."""
    return [list(cipher.open(row.tenant, row.key, row.body).observations) for row in cipher.rows(waiting)]


def test_what_is_opened_is_what_was_sent(cipher: JournalCipher) -> None:
    """Requests of one tenant and signal share a row with the observations of all; tenants do not share."""
    bodies = [traces(1, 2), traces(3)]
    sent = [o for body in bodies for o in decode_traces(body).observations]
    assert contents(cipher, parts(*bodies)) == [sent]
    assert (
        len(contents(cipher, [*parts(traces(1)), *parts(traces(1), tenant="other"), *parts(b"", signal="logs")])) == 3
    )


def test_large_bodies_and_json_have_rows_of_their_own(cipher: JournalCipher) -> None:
    """A row, which is decoded at once, holds at most a piece of a body; JSON cannot be joined."""
    large = traces(1, filler="x" * 300_000)
    assert len(cipher.rows(parts(large, large))) == 2
    assert len(cipher.rows(parts(b"{}", b"{}", is_json=True))) == 2


def test_no_secret_can_be_read_in_a_row(cipher: JournalCipher) -> None:
    """A row holds neither the secret nor the compressed form of its body, and two rows of one body differ."""
    waiting = parts(traces(1, note=KEY))
    first, second = cipher.rows(waiting)[0].body, cipher.rows(waiting)[0].body
    assert KEY.encode() not in first
    assert first != second
    assert b"\x28\xb5\x2f\xfd" not in first  # zstd


def test_a_row_opens_with_its_key_for_its_tenant_alone(cipher: JournalCipher) -> None:
    """Another key, another tenant and a changed bit are refused."""
    [row] = cipher.rows(parts(traces(1)))
    other = JournalCipher(["another secret"])
    assert other.keys != cipher.keys
    changed = row.body[:-1] + bytes((row.body[-1] ^ 1,))
    for opener, tenant, key, body in (
        (other, "default", row.key, row.body),
        (other, "default", other.keys[0], row.body),
        (cipher, "evil", row.key, row.body),
        (cipher, "default", row.key, changed),
        (cipher, "default", row.key, b""),
    ):
        with pytest.raises(ValueError, match="not encrypted with this key"):
            opener.open(tenant, key, body)


def test_an_older_key_still_opens(cipher: JournalCipher) -> None:
    """The first secret encrypts, all decrypt; a process with the same secret has the same key."""
    [row] = cipher.rows(parts(traces(1)))
    renewed = JournalCipher(["a newer secret", "a secret of the settings"])
    assert renewed.open(row.tenant, row.key, row.body).observations
    assert renewed.rows(parts(traces(1)))[0].key != row.key


def test_what_cannot_be_read_is_counted_and_kept(cipher: JournalCipher) -> None:
    """A span that the parser accepts and the reader does not is left out, with its bytes; its neighbours are
    kept.
    """
    bad = traces(2).replace(b"\x0a\x15gen_ai.operation.name", b"\x0a\x15gen_ai.operation.\xff\xff\xff\xff")
    attribute = b"\x12\x06\x0a\x04chat"
    assert attribute in bad
    opened = cipher.open(
        "default",
        cipher.keys[0],
        cipher.rows(parts(traces(1), bad.replace(attribute, b"\x12\x06\x0a\x05chat")))[0].body,
    )
    assert [int.from_bytes(o.span_id, "big") for o in opened.observations] == [1]
    assert opened.dropped == {"undecodable": 1}
    assert [each[0] for each in opened.unreadable] == ["otlp traces"]
