"""The forwarder's waiting requests: bounded, in order, and none holds up another for long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanpost.receivers.forward_queue import LONGEST_WAIT, ForwardQueue


def queue(most_bytes: int = 1000, most_per_request: int = 100, retry_time: float = 60.0) -> ForwardQueue:
    return ForwardQueue(most_bytes, most_per_request, retry_time)


def sent(queue: ForwardQueue, now: float = 0.0) -> list[bytes]:
    """Accept everything that is due; return it."""
    bodies = []
    while (taken := queue.take(now)) is not None:
        bodies.append(taken[1].body())
        queue.resolve(taken[0])
    return bodies


def test_requests_join_as_long_as_they_fit() -> None:
    """Requests of one signal that wait are joined up to the limit, in order; the one being sent is not touched."""
    waiting = queue()
    assert waiting.put("traces", b"a" * 60, 1, 0.0)
    assert waiting.take(0.0) is not None
    for letter in (b"b", b"c", b"d"):
        assert waiting.put("traces", letter * 40, 1, 0.0)
    waiting.resolve("traces")
    assert sent(waiting) == [b"b" * 40 + b"c" * 40, b"d" * 40]
    assert waiting.size == 0


def test_live_records_take_half_of_the_memory() -> None:
    """Live records fill half of the memory, finished spans all of it; what does not fit is not taken."""
    waiting = queue()
    assert waiting.put("logs", b"l" * 500, 1, 0.0)
    assert not waiting.put("logs", b"l", 1, 0.0)
    assert waiting.put("traces", b"t" * 500, 1, 0.0)
    assert not waiting.put("traces", b"t", 1, 0.0)
    assert waiting.size == 1000


def test_a_failing_request_goes_behind_the_others() -> None:
    """After its third failure in a row a request is tried after those that wait behind it."""
    waiting = queue()
    for letter in (b"p", b"q", b"r"):
        waiting.put("traces", letter * 90, 1, 0.0)
    order = []
    now = 0.0
    for _ in range(4):
        now += LONGEST_WAIT
        taken = waiting.take(now)
        assert taken is not None
        order.append(taken[1].body()[:1])
        waiting.put_off("traces", now, None)
    assert order == [b"p", b"p", b"p", b"q"]


def test_an_endpoint_is_left_alone_as_long_as_it_asks_for() -> None:
    """`Retry-After` is kept, within its bound, for the signal that it was said to; the other goes on."""
    for asked, waits in ((7.0, 7.0), (3600.0, LONGEST_WAIT)):
        waiting = queue()
        waiting.put("traces", b"t", 1, 0.0)
        waiting.put("logs", b"l", 1, 0.0)
        assert (waiting.take(0.0) or ("",))[0] == "traces"
        waiting.put_off("traces", 0.0, asked)
        assert (waiting.take(0.0) or ("",))[0] == "logs"
        waiting.resolve("logs")
        assert waiting.take(waits - 0.01) is None
        assert waiting.wait(1.0) == waits - 1.0
        assert waiting.take(waits) is not None


def test_smaller_requests_take_the_place_of_a_large_one() -> None:
    """Halves are next, in order, before what waited behind."""
    waiting = queue()
    waiting.put("traces", b"a" * 80, 2, 0.0)
    waiting.put("traces", b"b" * 80, 1, 0.0)
    waiting.take(0.0)
    waiting.replace("traces", [(b"1" * 40, 1), (b"2" * 40, 1)])
    assert sent(waiting) == [b"1" * 40, b"2" * 40, b"b" * 80]


_moves = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["logs", "traces"]), st.integers(1, 120)),
    st.tuples(st.just("accept")),
    st.tuples(st.just("put off")),
    st.tuples(st.just("halve")),
)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(_moves, max_size=60))
def test_nothing_is_lost_or_sent_twice(moves: list[tuple[str, str, int]]) -> None:
    """In any course each taken byte leaves the queue once, and the sizes agree with what waits."""
    waiting = queue()
    taken_in = {"logs": 0, "traces": 0}
    left = {"logs": 0, "traces": 0}
    now = 0.0
    for move in [*moves, *[("accept",)] * 200]:
        now += LONGEST_WAIT
        if move[0] == "put":
            _, name, size = move
            if waiting.put(name, name[:1].encode() * size, size, now):
                taken_in[name] += size
            continue
        taken = waiting.take(now)
        if taken is None:
            continue
        name, request = taken
        body = request.body()
        assert body == name[:1].encode() * request.count
        if move[0] == "accept":
            left[name] += waiting.resolve(name).count
        elif move[0] == "put off":
            waiting.put_off(name, now, None)
        else:
            middle = len(body) // 2
            waiting.replace(name, [(part, len(part)) for part in (body[:middle], body[middle:]) if part])
        assert waiting.size == sum(taken_in.values()) - sum(left.values())
    assert left == taken_in
    assert waiting.oldest is None
