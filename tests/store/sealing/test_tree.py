"""Merkle trees: roots, proofs and their verification, for trees of any size, against RFC 6962's definition."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.store.sealing import tree


def defined_root(hashes: list[bytes]) -> bytes:
    """The root as section 2.1 of RFC 6962 defines it."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\x01" + defined_root(hashes[:split]) + defined_root(hashes[split:])).digest()


def hashes_of(size: int) -> list[bytes]:
    return [tree.leaf_hash(str(number).encode()) for number in range(size)]


def reader_of(hashes: list[bytes]) -> tree.Reader:
    """A reader of tiles, as they are stored: whole tiles of one level are the hashes of the next."""
    levels = [hashes]
    while len(levels[-1]) >= tree.WIDTH:
        below = levels[-1]
        whole = len(below) // tree.WIDTH
        levels.append([tree.root_of(below[i * tree.WIDTH : (i + 1) * tree.WIDTH]) for i in range(whole)])

    def tile(level: int, number: int) -> bytes:
        return b"".join(levels[level][number * tree.WIDTH : (number + 1) * tree.WIDTH])

    return tree.TileReader(tile)


SIZES = st.integers(1, 70) | st.sampled_from([255, 256, 257, 511, 512, 513, 700])


@given(SIZES)
def test_roots_are_those_of_the_rfc(size: int) -> None:
    """The root from leaves, and from tiles, is the one that the definition gives."""
    hashes = hashes_of(size)
    assert tree.root_of(hashes) == tree.subtree_root(0, size, reader_of(hashes)) == defined_root(hashes)


@given(SIZES, st.data())
def test_inclusion_is_proven_for_this_leaf_alone(size: int, data: st.DataObject) -> None:
    """A leaf's proof leads to the root; with another leaf, another place or a changed hash it does not."""
    hashes = hashes_of(size)
    leaf = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion_proof(leaf, size, reader_of(hashes))
    root = defined_root(hashes)
    assert tree.root_by_inclusion(leaf, size, hashes[leaf], proof) == root
    assert tree.root_by_inclusion(leaf, size, tree.leaf_hash(b"another"), proof) != root
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:at], tree.leaf_hash(proof[at]), *proof[at + 1 :]]
        assert tree.root_by_inclusion(leaf, size, hashes[leaf], changed) != root
        for wrong in (proof[:-1], [*proof, root]):
            with suppress(ValueError):
                assert tree.root_by_inclusion(leaf, size, hashes[leaf], wrong) != root


@pytest.mark.proves("named")
@given(SIZES, st.data())
def test_consistency_is_proven_for_this_beginning_alone(size: int, data: st.DataObject) -> None:
    """A proof shows a tree to begin with an older one, and no proof fits a tree with another beginning."""
    hashes = hashes_of(size)
    old = data.draw(st.integers(1, size))
    proof = tree.consistency_proof(old, size, reader_of(hashes))
    roots = defined_root(hashes[:old]), defined_root(hashes)
    assert tree.is_consistent(old, roots[0], size, roots[1], proof)
    changed = list(hashes)
    changed[data.draw(st.integers(0, old - 1))] = tree.leaf_hash(b"changed")
    rewritten = tree.consistency_proof(old, size, reader_of(changed))
    assert not tree.is_consistent(old, roots[0], size, defined_root(changed), rewritten)
    assert not tree.is_consistent(old, roots[0], size, defined_root(changed), proof)
