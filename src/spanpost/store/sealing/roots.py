"""The tree of a log, built from the hashes of its leaves: 64 bytes of memory for each leaf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from spanpost.store.sealing import tree
from spanpost.store.sealing.checkpoints import SignedRoot
from spanpost.store.sealing.tree import HASH_SIZE, WIDTH
from spanpost.store.sealing.verified import Verified

_TILE: Final = WIDTH * HASH_SIZE
#: Tiles that are read at once.
_AT_ONCE: Final = 200
_TILES: Final = """
SELECT tile, hashes FROM seal_tiles WHERE tenant = $1 AND level = $2 AND tile >= $3 AND tile < $4 ORDER BY tile"""
_BEYOND: Final = """
SELECT level, array_agg(tile) AS tiles FROM (
  SELECT level, tile FROM seal_tiles
  WHERE tenant = $1 AND (tile < 0 OR tile >= coalesce(($2::int8[])[level + 1], 0)) ORDER BY tile LIMIT 10) t
GROUP BY level"""
_LEVELS: Final = 8


class Roots:
    """Roots of the beginnings of a log. `hashes`: those of its leaves, one after the other."""

    def __init__(self, hashes: bytearray) -> None:
        self.size = len(hashes) // HASH_SIZE
        self._levels = [hashes]
        while len(below := self._levels[-1]) >= 2 * HASH_SIZE:
            above = bytearray()
            for at in range(0, len(below) - 2 * HASH_SIZE + 1, 2 * HASH_SIZE):
                pair = bytes(below[at : at + 2 * HASH_SIZE])
                above += tree.node_hash(pair[:HASH_SIZE], pair[HASH_SIZE:])
            self._levels.append(above)

    def __call__(self, size: int) -> bytes:
        return tree.subtree_root(0, size, self._node)

    def _node(self, height: int, index: int) -> bytes:
        return bytes(self._levels[height][index * HASH_SIZE : (index + 1) * HASH_SIZE])

    def level(self, number: int) -> bytearray:
        """Return the hashes of which the tiles of a level consist."""
        height = number * (WIDTH.bit_length() - 1)
        return self._levels[height] if height < len(self._levels) else bytearray()


def compare(tenant: str, found: SignedRoot, roots: Roots, what: str, result: Verified) -> int:
    """Compare a checkpoint with the log; return how many leaves it vouches for."""
    if found.size > roots.size:
        result.add(tenant, f"{what} {found.size}: the log has {roots.size} leaves: its end was cut off")
        return 0
    if roots(found.size) != found.root:
        result.add(tenant, f"{what} {found.size}: the first {found.size} leaves are not those that were signed")
        return 0
    return found.size


async def verify_tiles(connection: Any, tenant: str, roots: Roots, result: Verified) -> None:
    """Compare the stored tiles with those that follow from the leaves."""
    counts = []
    for level in range(_LEVELS):
        own = roots.level(level)
        counts.append(-(-len(own) // _TILE))
        expected = 0
        async for number, hashes in _tiles(connection, tenant, level, counts[-1]):
            while expected < number:
                _changed(tenant, level, expected, result)
                expected += 1
            if hashes != own[number * _TILE : (number + 1) * _TILE]:
                _changed(tenant, level, number, result)
            expected = number + 1
        for missing in range(expected, counts[-1]):
            _changed(tenant, level, missing, result)
    for row in await connection.fetch(_BEYOND, tenant, counts):
        result.add(tenant, f"tiles of level {row['level']} beyond the end of the log: {sorted(row['tiles'])}")


def _changed(tenant: str, level: int, number: int, result: Verified) -> None:
    result.add(tenant, f"tile {level}/{number} was changed: its hashes are not those of the leaves")


async def _tiles(connection: Any, tenant: str, level: int, count: int) -> AsyncIterator[tuple[int, bytes]]:
    for first in range(0, count, _AT_ONCE):
        for row in await connection.fetch(_TILES, tenant, level, first, min(count, first + _AT_ONCE)):
            yield row["tile"], row["hashes"]
