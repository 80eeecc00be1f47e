"""Merkle trees of RFC 6962: roots, proofs, and their verification, from hashes that are stored in tiles.

A node is named by its height (0: a leaf's hash) and its index at that height. It covers 2**height leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

#: Returns the hash of a complete node, by height and index.
Reader: TypeAlias = Callable[[int, int], bytes]

HASH_SIZE: Final = 32
#: Number of leaves' hashes, and of the hashes of lower tiles, in one tile.
WIDTH: Final = 256
#: Number of heights that one tile spans.
_SPAN: Final = 8
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a tree with these leaves' hashes."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


class TileReader:
    """A `Reader` of hashes in tiles. `tile(level, index)` returns the hashes of a tile, one after the other."""

    def __init__(self, tile: Callable[[int, int], bytes]) -> None:
        self._tile = tile
        self._kept: dict[tuple[int, int], bytes] = {}

    def __call__(self, height: int, index: int) -> bytes:
        level, above = divmod(height, _SPAN)
        first = index << above
        number, at = divmod(first, WIDTH)
        key = (level, number)
        tile = self._kept.get(key)
        if tile is None:
            tile = self._kept[key] = self._tile(level, number)
        part = tile[at * HASH_SIZE : (at + (1 << above)) * HASH_SIZE]
        if len(part) != HASH_SIZE << above:
            raise ValueError(f"tile {level}/{number} has fewer than {at + (1 << above)} hashes")
        return root_of([part[i : i + HASH_SIZE] for i in range(0, len(part), HASH_SIZE)])


def _nodes(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Return the complete nodes that cover leaves from `begin` to before `end`, left to right."""
    while begin < end:
        height = (end - begin).bit_length() - 1
        if begin:
            height = min(height, (begin & -begin).bit_length() - 1)
        yield height, begin >> height
        begin += 1 << height


def subtree_root(begin: int, end: int, reader: Reader) -> bytes:
    """Return the root of the tree over leaves from `begin` to before `end`; `begin` is where RFC 6962 splits."""
    hashes = [reader(*node) for node in _nodes(begin, end)]
    if not hashes:
        return EMPTY_ROOT
    found = hashes.pop()
    while hashes:
        found = node_hash(hashes.pop(), found)
    return found


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaf: int, size: int, reader: Reader) -> list[bytes]:
    """Return the hashes that prove a leaf in a tree of `size` leaves, the lowest first."""
    if not 0 <= leaf < size:
        raise ValueError(f"a log of {size} leaves has no leaf {leaf}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if leaf < middle:
            proof.append(subtree_root(middle, end, reader))
            end = middle
        else:
            proof.append(subtree_root(begin, middle, reader))
            begin = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, reader: Reader) -> list[bytes]:
    """Return the hashes that prove a tree of `old` leaves to be the beginning of one with `size`."""
    if not 0 < old <= size:
        raise ValueError(f"a log of {size} leaves has no beginning of {old}")
    proof: list[bytes] = []
    begin, end, is_whole = 0, size, True
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(subtree_root(middle, end, reader))
            end = middle
        else:
            proof.append(subtree_root(begin, middle, reader))
            begin, is_whole = middle, False
    if not is_whole:
        proof.append(subtree_root(begin, end, reader))
    return proof[::-1]


def root_by_inclusion(leaf: int, size: int, hashed: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that follows from a leaf's hash and its proof. Raises ValueError if the proof does not fit."""
    if not 0 <= leaf < size:
        raise ValueError(f"a log of {size} leaves has no leaf {leaf}")
    at, last, found = leaf, size - 1, hashed
    for each in proof:
        if last == 0:
            raise ValueError("the proof has too many hashes")
        if at & 1 or at == last:
            found = node_hash(each, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    if last:
        raise ValueError("the proof has too few hashes")
    return found


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether a proof shows the tree of `old` leaves to be the beginning of the one with `size`."""
    if old == size:
        return not proof and old_root == root
    if not 0 < old < size:
        return False
    rest = list(proof)
    if old & (old - 1) == 0:
        rest.insert(0, old_root)
    if not rest:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    of_old = of_new = rest[0]
    for each in rest[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            of_old, of_new = node_hash(each, of_old), node_hash(each, of_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            of_new = node_hash(of_new, each)
        at, last = at >> 1, last >> 1
    return last == 0 and of_old == old_root and of_new == root
