"""Fair shares: which tenant loses a place, how many bytes a sender may hold, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http.shares import KEPT, FairLine, Full, Sender, SharedBytes, SharedPlaces, network_of
from tests.thorough import thorough

TENANTS, ADDRESSES = "abcd", "123"
senders = st.builds(Sender, st.sampled_from(TENANTS), st.sampled_from(ADDRESSES))
steps = st.lists(
    st.tuples(senders, st.sampled_from(["take", "leave", "keep", "move"]), st.integers(0, 30)), max_size=80
)


def kept_up(most: int, renews: bool, taken: list[tuple[Sender, str, int]]) -> SharedPlaces[int]:
    """Follow steps; check the invariants at each."""
    places: SharedPlaces[int] = SharedPlaces(most, renews=renews)
    holders: dict[int, Sender] = {}
    kept: set[int] = set()
    for number, (sender, step, which) in enumerate(taken):
        if step == "take":
            tenants = {t: places.held((t,)) for t in TENANTS}
            before = dict(holders)
            try:
                given_up = places.take(sender, number)
            except Full:
                assert len(before) >= most
                assert max(tenants.values()) <= tenants[sender.tenant] + 1
                assert not renews or before.keys() <= kept
                continue
            holders[number] = sender
            if given_up is None:
                assert len(before) < most
            else:
                loser = holders.pop(given_up).tenant
                is_richer = tenants[loser] > tenants[sender.tenant] + 1
                assert is_richer or (renews and given_up not in kept) or loser == sender.tenant
                kept.discard(given_up)
        elif holders:
            one = sorted(holders)[which % len(holders)]
            if step == "leave":
                places.leave(one)
                places.leave(one)
                del holders[one]
                kept.discard(one)
            else:
                places.move(one, KEPT if step == "keep" else which % 3)
                kept = kept | {one} if step == "keep" else kept - {one}
        assert len(places) == len(holders) <= most
        for t in TENANTS:
            assert places.held((t,)) == sum(sender.tenant == t for sender in holders.values())
    return places


@pytest.mark.proves("one-stops-no-other")
@given(st.integers(0, 12), st.booleans(), steps)
@thorough(300)
def test_a_tenant_with_few_places_is_not_refused(most: int, renews: bool, taken: list[tuple[Sender, str, int]]) -> None:
    """After any steps, no tenant is refused while another has more than one more; only a tenant with fewer
    replaces one.
    """
    kept_up(most, renews, taken)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 100))
@thorough(100)
def test_places_end_up_even(most: int, tenants: int, first: int) -> None:
    """When all ask repeatedly, no two tenants are more than one place apart, in any order of arrival."""
    places: SharedPlaces[int] = SharedPlaces(most)
    asked = [Sender("a", "1")] * first + [Sender(TENANTS[n % tenants], "1") for n in range(60)]
    for number, sender in enumerate(asked):
        try:
            places.take(sender, number)
        except Full:
            continue
    held = [places.held((t,)) for t in TENANTS[:tenants]]
    assert max(held) - min(held) <= 1
    assert sum(held) == min(most, len(asked))


def test_the_longest_held_place_of_the_lowest_rank_is_given_up() -> None:
    """Rank comes before age; within a tenant, the address with most of its places loses one."""
    places: SharedPlaces[str] = SharedPlaces(4, renews=True)
    for place in ("one", "two", "three"):
        places.take(Sender("a", "1"), place)
    places.take(Sender("a", "2"), "four")
    places.move("one", 1)
    assert places.take(Sender("b", "1"), "five") == "two"
    assert places.take(Sender("a", "3"), "six") == "three"
    assert places.take(Sender("a", "3"), "seven") == "six"
    for place in ("one", "four", "five", "seven"):
        places.move(place, KEPT)
    with pytest.raises(Full):
        places.take(Sender("a", "2"), "eight")
    assert places.take(Sender("c", "1"), "nine") == "one"


requests = st.lists(st.tuples(senders, st.integers(1, 60)), max_size=60)


@pytest.mark.proves("one-stops-no-other")
@given(st.integers(1, 100), requests)
@thorough(300)
def test_bytes_of_many_are_bounded_and_leave_some_for_a_newcomer(alone: int, asked: list[tuple[Sender, int]]) -> None:
    """All together hold at most twice the limit of one, and a late tenant gets a part of the rest."""
    held = SharedBytes()
    for sender, size in asked:
        if held.fits(sender, size, alone):
            held.add(sender, size)
        assert held.total < 2 * alone
        assert held.held(sender) <= alone
    left = 2 * alone - held.total
    assert held.fits(Sender("new", "9"), left // 2, alone)


def test_one_sender_alone_may_have_all_that_one_may() -> None:
    """A single sender may use the whole limit, and nothing is left over when it is released."""
    held, sender = SharedBytes(), Sender("a", "1")
    assert held.fits(sender, 999, 999)
    assert not held.fits(sender, 1000, 999)
    held.add(sender, 999)
    held.add(sender, -999)
    assert (held.total, held.held(sender), held.held(("a",))) == (0, 0, 0)


@given(st.lists(senders, max_size=40), st.data())
@thorough(100)
def test_tenants_take_turns(waiting: list[Sender], data: st.DataObject) -> None:
    """Between two turns of a tenant each other waiting tenant has one; removed ones have none, the order
    stays.
    """
    line: FairLine[tuple[Sender, int]] = FairLine()
    items = [(sender, number) for number, sender in enumerate(waiting)]
    for item in items:
        line.put(item[0], item)
    gone = set(data.draw(st.lists(st.sampled_from(items)))) if items else set()
    for item in gone:
        line.remove(item[0], item)
        line.remove(item[0], item)
    served = []
    while line:
        served.append(line.next())
    assert sorted(served) == sorted(set(items) - gone)
    for sender in set(waiting):
        own = [item for item in served if item[0] == sender]
        assert own == sorted(own)
    tenants = [sender.tenant for sender, _ in served]
    for place, tenant in enumerate(tenants):
        if tenant in (rest := tenants[place + 1 :]):
            between = rest[: rest.index(tenant)]
            assert len(between) == len(set(between))


def test_one_machine_is_one_address() -> None:
    """IPv6 counts by network, because a machine owns all addresses of one; IPv4 within IPv6 is IPv4."""
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2:aaaa::1") == network_of("2001:db8:1:2::2") != network_of("2001:db8:1:3::2")
    assert network_of("a name") == "a name"
