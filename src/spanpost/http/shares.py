"""Fair shares of places and bytes. Pure: no clock, no socket.

A holder is a path, from the tenant down: ``(tenant, address)``. Tenants share first; then the addresses of a
tenant share its part. So a tenant with many addresses gets no more than a tenant with one.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Generic, NamedTuple, TypeAlias, TypeVar

Holder: TypeAlias = tuple[str, ...]
P = TypeVar("P")

#: Rank of places that are given up last, and only for a holder with fewer places.
KEPT = 9


class Sender(NamedTuple):
    """A holder of bytes and turns: the token's tenant, and the address it sends from."""

    tenant: str
    address: str


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """Return the part of an address that counts as one sender: all of IPv4, the first 64 bits of IPv6.

    One machine usually controls the other 64 bits.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


class Full(Exception):
    """All places are taken, and no other holder has more of them than this one."""


class SharedPlaces(Generic[P]):
    """A fixed number of places. When all are taken, the holder with most of them gives one up for a holder
    with fewer.

    The holder with the fewest is never refused while another has at least two more. The place given up is
    the first of the lowest rank: the longest held, unless `move` was called. With `renews`, a new place
    replaces an older one of the same holder if no other has at least two more.
    """

    def __init__(self, most: int, *, renews: bool = False) -> None:
        self._most = most
        self._renews = renews
        self._places: dict[P, tuple[Holder, int]] = {}
        #: Places below each prefix of a path, and those of them that are not `KEPT`.
        self._held: dict[Holder, int] = {}
        self._movable: dict[Holder, int] = {}
        self._below: dict[Holder, dict[Holder, None]] = {}
        #: By holder and rank, the longest held first.
        self._ranks: dict[Holder, dict[int, dict[P, None]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def held(self, holder: Holder) -> int:
        """Return the number of places of a holder, or of a prefix such as ``(tenant,)``."""
        return self._held.get(holder, 0)

    def take(self, holder: Holder, place: P) -> P | None:
        """Give a place to a holder; return the place given up for it, which the caller must end.

        Raises `Full`.
        """
        given_up = None
        if len(self._places) >= self._most:
            given_up = self._first(self._loser(holder))
            self.leave(given_up)
        self._places[place] = holder, 0
        self._count(holder, held=1, movable=1)
        self._ranks.setdefault(holder, {}).setdefault(0, {})[place] = None
        return given_up

    def move(self, place: P, rank: int) -> None:
        """Move a place to the end of a rank."""
        found = self._places.get(place)
        if found is None:
            return
        holder, before = found
        del self._ranks[holder][before][place]
        self._ranks[holder].setdefault(rank, {})[place] = None
        self._places[place] = holder, rank
        self._count(holder, movable=(rank != KEPT) - (before != KEPT))

    def leave(self, place: P) -> None:
        """Give a place back. Safe to repeat."""
        found = self._places.pop(place, None)
        if found is None:
            return
        holder, rank = found
        del self._ranks[holder][rank][place]
        self._count(holder, held=-1, movable=-(rank != KEPT))

    def _count(self, holder: Holder, *, held: int = 0, movable: int = 0) -> None:
        for depth in range(len(holder) + 1):
            part = holder[:depth]
            self._held[part] = self._held.get(part, 0) + held
            self._movable[part] = self._movable.get(part, 0) + movable
            if part:
                self._below.setdefault(part[:-1], {})[part] = None
            if not self._held[part]:
                del self._held[part], self._movable[part]
                self._below.get(part[:-1], {}).pop(part, None)
                self._below.pop(part, None)
                self._ranks.pop(part, None)

    def _loser(self, holder: Holder) -> Holder:
        """Return the holder that must give up a place for this one. Raises `Full`."""
        for depth in range(len(holder)):
            own, most = holder[: depth + 1], self._with_most(self._held, holder[:depth])
            if most is not None and self._held[most] > self.held(own) + 1:
                return self._deepest(self._held, most)
        if not self._renews or not self._movable.get(()):
            raise Full
        return holder if self._movable.get(holder) else self._deepest(self._movable, ())

    def _with_most(self, counts: dict[Holder, int], part: Holder) -> Holder | None:
        return max(self._below.get(part, ()), key=lambda below: counts.get(below, 0), default=None)

    def _deepest(self, counts: dict[Holder, int], part: Holder) -> Holder:
        while (below := self._with_most(counts, part)) is not None:
            part = below
        return part

    def _first(self, holder: Holder) -> P:
        ranks = self._ranks[holder]
        return next(iter(ranks[min(rank for rank, places in ranks.items() if places)]))


class SharedBytes:
    """Bytes held by senders. A tenant may hold three quarters of what other tenants leave; of that, an
    address two thirds of what the tenant's other addresses leave.

    So one sender alone may hold half of everything, a new sender always finds some left, and no body in
    progress must be ended for it. After the dynamic thresholds of switches with shared memory (Choudhury and
    Hahne, 1998).
    """

    def __init__(self) -> None:
        self.total = 0
        self._held: dict[Holder, int] = {}

    def held(self, holder: Holder) -> int:
        """Return the bytes of a sender, or of a tenant: ``(tenant,)``."""
        return self._held.get(tuple(holder), 0)

    def fits(self, sender: Sender, size: int, alone: int) -> bool:
        """Whether a sender may hold `size` bytes more; `alone`: the limit of a sender that is alone."""
        tenant, own = self.held(sender[:1]), self.held(sender)
        # What other tenants leave, in integers, so that one sender alone may hold exactly `alone`.
        left = 2 * alone - (self.total - tenant)
        return 4 * (tenant + size) <= 3 * left and 6 * (own + size) <= 3 * left - 4 * (tenant - own)

    def add(self, sender: Sender, size: int) -> None:
        """Add bytes to a sender; a negative `size` releases them."""
        self.total += size
        for part in (sender[:1], tuple(sender)):
            held = self._held.get(part, 0) + size
            if held:
                self._held[part] = held
            else:
                self._held.pop(part, None)


class FairLine(Generic[P]):
    """A fair queue: tenants take turns, then a tenant's addresses; an address is served in order."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, dict[P, None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def put(self, sender: Sender, item: P) -> None:
        """Add an item."""
        self._lines.setdefault(sender.tenant, {}).setdefault(sender.address, {})[item] = None

    def next(self) -> P:
        """Remove and return the next item. Raises IndexError if the queue is empty."""
        if not self._lines:
            raise IndexError("nothing waits")
        tenant = next(iter(self._lines))
        addresses = self._lines.pop(tenant)
        address = next(iter(addresses))
        items = addresses.pop(address)
        item = next(iter(items))
        del items[item]
        # Move the served tenant and address to the end.
        if items:
            addresses[address] = items
        if addresses:
            self._lines[tenant] = addresses
        return item

    def remove(self, sender: Sender, item: P) -> None:
        """Remove an item before its turn. Safe to repeat."""
        addresses = self._lines.get(sender.tenant, {})
        items = addresses.get(sender.address, {})
        items.pop(item, None)
        if not items:
            addresses.pop(sender.address, None)
        if not addresses:
            self._lines.pop(sender.tenant, None)
