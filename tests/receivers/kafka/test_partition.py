"""One partition: its messages are recorded in order, and its offset is always the database's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from spanpost.model.consumption import ConsumedMessage, PartitionOffset
from spanpost.model.errors import OffsetMoved, StoreUnavailable
from spanpost.receivers.kafka import partition
from spanpost.receivers.kafka.contents import RawMessage
from spanpost.receivers.kafka.messages import UnknownKey
from spanpost.receivers.kafka.partition import Partition
from tests.eventually import eventually_async

WHERE = ("t", 0)


class Table:
    """A database with one offset: refuses what does not continue from it, and remembers what it recorded."""

    def __init__(self, next: int | None = None) -> None:
        self.next = next
        self.recorded: list[int] = []
        self.calls = 0
        self.most = 1000
        self.is_down = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def offsets(self, group: str, partitions: Sequence[tuple[str, int]], /) -> dict[tuple[str, int], int]:
        return {WHERE: self.next} if self.next is not None else {}

    async def record(self, at: PartitionOffset, messages: Sequence[ConsumedMessage], /) -> int:
        self.calls += 1
        await self.go_on.wait()
        if self.is_down:
            raise StoreUnavailable("down")
        if at.next != self.next:
            raise OffsetMoved("moved")
        taken = messages[: self.most]
        self.recorded += [message.offset for message in taken]
        self.next = taken[-1].offset + 1
        return self.next

    async def postpone_stalls(self) -> None: ...


class Readable:
    """Reads every message, except those with a value of an unknown key."""

    unknown = b"?"

    def read(self, raw: RawMessage) -> ConsumedMessage:
        if raw.value == self.unknown:
            raise UnknownKey("00")
        return ConsumedMessage(offset=raw.offset)


def raw(*offsets: int, value: bytes = b"x") -> list[RawMessage]:
    return [RawMessage(*WHERE, offset, 1.0, (), value) for offset in offsets]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "_PAUSE", 0.01)
    monkeypatch.setattr(partition, "_LONG_PAUSE", 0.01)


@asynccontextmanager
async def reading(
    table: Table,
    start: int = 0,
    *,
    contents: Readable | None = None,
    seek: Callable[[int], None] = lambda offset: None,
    expired: Callable[[int], None] = lambda count: None,
) -> AsyncIterator[Partition]:
    part = Partition(
        PartitionOffset(group="g", topic=WHERE[0], partition=WHERE[1], next=table.next),
        start,
        consumption=table,
        contents=contents or Readable(),  # type: ignore[arg-type]
        places=asyncio.Semaphore(1),
        most=100,
        seek=seek,
        expired=expired,
    )
    yield part
    await part.release(1.0)


async def test_messages_are_recorded_in_order_and_once() -> None:
    """Messages arrive in pieces; each is recorded once, also where a call takes only some of them."""
    table = Table()
    table.most = 3
    async with reading(table) as part:
        part.add(raw(*range(7)), 0)
        part.add(raw(*range(7, 12)), 0)
        await eventually_async(lambda: table.next, lambda next: next == 12)
    assert table.recorded == [*range(12)]
    assert part.size == 0


async def test_messages_wait_while_the_database_is_down() -> None:
    """What cannot be recorded is tried again, and the offset does not move."""
    table = Table()
    table.is_down = True
    async with reading(table) as part:
        part.add(raw(0, 1), 0)
        await eventually_async(lambda: table.calls, lambda calls: calls > 2)
        assert part.position == 0
        assert part.lag[0] == 2
        table.is_down = False
        await eventually_async(lambda: table.next, lambda next: next == 2)


async def test_an_unknown_key_stops_the_partition_before_it() -> None:
    """A message that this process cannot decrypt is neither recorded nor passed: it waits for the key."""
    table, contents = Table(), Readable()
    async with reading(table, contents=contents) as part:
        part.add([*raw(0), *raw(1, value=b"?"), *raw(2)], 0)
        await eventually_async(lambda: table.next, lambda next: next == 1)
        assert part.lag[0] == 2
        contents.unknown = b"none"
        await eventually_async(lambda: table.next, lambda next: next == 3)


async def test_what_another_consumer_recorded_is_skipped() -> None:
    """An offset that is ahead in the database is followed: its messages are not recorded again."""
    table = Table()
    table.go_on.clear()
    async with reading(table) as part:
        part.add(raw(*range(6)), 0)
        await eventually_async(lambda: table.calls)
        table.next = 4
        table.go_on.set()
        await eventually_async(lambda: table.next, lambda next: next == 6)
    assert table.recorded == [4, 5]


async def test_an_offset_that_was_set_back_is_read_again() -> None:
    """An operator who lowers the offset gets the messages recorded again, from there, without a gap."""
    table, sought = Table(), list[int]()
    async with reading(table, seek=sought.append) as part:
        part.add(raw(*range(6)), 0)
        await eventually_async(lambda: table.next, lambda next: next == 6)
        table.next = 2
        part.add(raw(6), 0)
        await eventually_async(lambda: sought)
        part.add(raw(7, 8), 0)  # it was on its way before
        part.sought()
        part.add(raw(*range(2, 9)), 0)
        await eventually_async(lambda: table.next, lambda next: next == 9)
    assert (sought, table.recorded) == ([2], [*range(6), *range(2, 9)])


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    """The client goes back to lower offsets: what waits is recorded first, then the new messages, none left out."""
    table, sought = Table(), list[int]()
    table.is_down = True
    async with reading(table, seek=sought.append) as part:
        part.add(raw(*range(5, 9)), 0)
        await eventually_async(lambda: table.calls)
        part.add(raw(0, 1), 0)
        part.add(raw(2), 0)
        table.is_down = False
        await eventually_async(lambda: sought)
        part.sought()
        part.add(raw(*range(3)), 0)
        await eventually_async(lambda: table.next, lambda next: next == 3)
        assert part.lag[0] == 0
    assert (sought, table.recorded) == ([0], [5, 6, 7, 8, 0, 1, 2])


async def test_messages_that_kafka_deleted_are_counted() -> None:
    """A gap up to the oldest offset of the brokers is a loss; a gap of the protocol's own records is none."""
    table, lost = Table(), list[int]()
    async with reading(table, expired=lost.append) as part:
        part.add(raw(0), 0)
        part.add(raw(2), 0)
        part.add(raw(10, 11), 10)
        await eventually_async(lambda: table.next, lambda next: next == 12)
    assert lost == [7]


async def test_a_released_partition_finishes_its_transaction() -> None:
    """A partition that is taken away ends after the transaction in progress, and begins no other."""
    table = Table()
    table.most = 1
    table.go_on.clear()
    async with reading(table) as part:
        part.add(raw(0, 1), 0)
        await eventually_async(lambda: table.calls)
        releasing = asyncio.create_task(part.release(30.0))
        await asyncio.sleep(0)
        table.go_on.set()
        await releasing
    assert (table.recorded, table.calls) == ([0], 1)


async def test_a_released_partition_leaves_a_long_transaction_to_the_next_owner() -> None:
    """A transaction that does not end in time is rolled back, which is an orderly end: nothing of it is recorded."""
    table = Table()
    table.go_on.clear()
    async with reading(table) as part:
        part.add(raw(0, 1), 0)
        await eventually_async(lambda: table.calls)
        assert await part.release(0.0)
        table.go_on.set()
    assert (table.recorded, table.calls) == ([], 1)
