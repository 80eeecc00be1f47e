"""Export of a log into files, laid out as tlog-tiles (C2SP) says: any client of that format can read them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from spanpost.store.sealing import checkpoints, tree

_ROWS: Final = 500
_SIGNED: Final = "SELECT size, note FROM seal_checkpoints WHERE tenant = $1 ORDER BY size DESC LIMIT 1"
_TILES: Final = """
SELECT tile AS number, hashes AS body FROM seal_tiles
WHERE tenant = $1 AND level = $2 AND tile > $3 ORDER BY tile LIMIT $4"""
_ENTRIES: Final = """
SELECT bundle AS number, body FROM seal_entries WHERE tenant = $1 AND bundle > $2 ORDER BY bundle LIMIT $3"""


def path_of(number: int) -> str:
    """Return the path of a tile's number: groups of three digits, all but the last after an `x`."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups)


async def export(connection: Any, tenant: str, directory: Path) -> int:
    """Write a log's newest checkpoint with its tiles and entry bundles; return the number of its leaves, 0 if nothing
    is signed. Files that are there and complete stay.

    Raises OSError. Read in one transaction of level repeatable read.
    """
    signed = await connection.fetchrow(_SIGNED, tenant)
    if signed is None:
        return 0
    size: int = signed["size"]
    level, count = 0, size
    while count:
        async for row in _tiles(connection, tenant, level):
            width = min(tree.WIDTH, count - row["number"] * tree.WIDTH)
            if width > 0:
                name = f"tile/{level}/{path_of(row['number'])}"
                _write(directory, name, width, row["body"][: width * tree.HASH_SIZE])
        level, count = level + 1, count // tree.WIDTH
    after = -1
    while rows := await connection.fetch(_ENTRIES, tenant, after, _ROWS):
        for row in rows:
            width = min(tree.WIDTH, size - row["number"] * tree.WIDTH)
            if width > 0:
                _write(directory, f"tile/entries/{path_of(row['number'])}", width, _beginning(row["body"], width))
        after = rows[-1]["number"]
    _write(directory, "checkpoint", tree.WIDTH, signed["note"].encode(), is_fixed=False)
    return checkpoints.read(signed["note"]).size


async def _tiles(connection: Any, tenant: str, level: int) -> AsyncIterator[Any]:
    after = -1
    while rows := await connection.fetch(_TILES, tenant, level, after, _ROWS):
        for row in rows:
            yield row
        after = rows[-1]["number"]


def _beginning(body: bytes, width: int) -> bytes:
    """Return the first entries of a bundle."""
    at = 0
    for _ in range(width):
        at += 2 + int.from_bytes(body[at : at + 2], "big")
    return body[:at]


def _write(directory: Path, name: str, width: int, body: bytes, *, is_fixed: bool = True) -> None:
    path = directory / (name if width == tree.WIDTH else f"{name}.p/{width}")
    if is_fixed and path.exists() and path.stat().st_size == len(body):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_bytes(body)
    fresh.replace(path)
