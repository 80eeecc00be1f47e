"""The trees of sealed logs in the database: leaves are appended, tiles and entry bundles are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from spanpost.store.sealing.leaves import bundled
from spanpost.store.sealing.tree import HASH_SIZE, WIDTH, Reader, TileReader, leaf_hash, root_of

_TILE: Final = "SELECT hashes FROM seal_tiles WHERE tenant = $1 AND level = $2 AND tile = $3"
_PUT_TILES: Final = """
INSERT INTO seal_tiles (tenant, level, tile, width, hashes) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, level, tile) DO UPDATE SET width = excluded.width, hashes = excluded.hashes"""
_BUNDLE: Final = "SELECT body FROM seal_entries WHERE tenant = $1 AND bundle = $2"
_PUT_BUNDLES: Final = """
INSERT INTO seal_entries (tenant, bundle, width, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, bundle) DO UPDATE SET width = excluded.width, body = excluded.body"""
#: Leaves are at most this long: a length has two bytes.
LONGEST: Final = 0xFFFF


async def append(connection: Any, tenant: str, size: int, leaves: Sequence[bytes]) -> int:
    """Append leaves to a log of `size` leaves; return its new size. The caller holds the sealer's lock."""
    await _append_entries(connection, tenant, size, leaves)
    fresh = [leaf_hash(leaf) for leaf in leaves]
    level, count, rows = 0, size, []
    while fresh:
        first, within = divmod(count, WIDTH)
        kept = b""
        if within:
            kept = (await connection.fetchval(_TILE, tenant, level, first) or b"")[: within * HASH_SIZE]
            if len(kept) != within * HASH_SIZE:
                raise ValueError(f"the log of tenant {tenant!r} has no whole tile {level}/{first}")
        hashes = kept + b"".join(fresh)
        above = []
        for number, at in enumerate(range(0, len(hashes), HASH_SIZE * WIDTH), first):
            tile = hashes[at : at + HASH_SIZE * WIDTH]
            rows.append((tenant, level, number, len(tile) // HASH_SIZE, tile))
            if len(tile) == HASH_SIZE * WIDTH:
                above.append(root_of([tile[i : i + HASH_SIZE] for i in range(0, len(tile), HASH_SIZE)]))
        level, count, fresh = level + 1, first, above
    await connection.executemany(_PUT_TILES, rows)
    return size + len(leaves)


async def _append_entries(connection: Any, tenant: str, size: int, leaves: Sequence[bytes]) -> None:
    first, within = divmod(size, WIDTH)
    kept = (await connection.fetchval(_BUNDLE, tenant, first) or b"") if within else b""
    rows, at, number = [], 0, first
    while at < len(leaves):
        some = leaves[at : at + WIDTH - within]
        rows.append((tenant, number, within + len(some), kept + bundled(some)))
        at, number, within, kept = at + len(some), number + 1, 0, b""
    await connection.executemany(_PUT_BUNDLES, rows)


async def reader(connection: Any, tenant: str, sizes: Sequence[int], leaves: Sequence[int] = ()) -> Reader:
    """Return a reader of the nodes for roots and consistency of trees of `sizes`, and for proofs of `leaves`."""
    wanted = {each for size in sizes for each in _edge(size)}
    for leaf in leaves:
        index, level = leaf // WIDTH, 0
        while level <= max((each[0] for each in wanted), default=0):
            wanted.add((level, index))
            index, level = index // WIDTH, level + 1
    return TileReader(await _tiles(connection, tenant, sorted(wanted)))


def _edge(size: int) -> Iterator[tuple[int, int]]:
    """Return the tiles, by level and number, that hold the nodes of the right edge of a tree."""
    level, count = 0, size
    while count:
        yield level, (count - 1) // WIDTH
        level, count = level + 1, count // WIDTH


async def _tiles(connection: Any, tenant: str, wanted: Any) -> Any:
    kept = {(level, tile): await connection.fetchval(_TILE, tenant, level, tile) or b"" for level, tile in wanted}
    return lambda level, tile: kept.get((level, tile), b"")
