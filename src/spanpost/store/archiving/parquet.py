"""Rows as Parquet: copied from the database as CSV, and read back as digests.

Times are timestamps in UTC, numbers and booleans their own types; ids are hex or UUID text, JSON is text.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from hashlib import md5
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING, Any, Final

from spanpost.model.errors import ConfigError
from spanpost.store.archiving.sources import NULL, SEPARATOR, ArchiveField, RowsDigest

if TYPE_CHECKING:
    import pyarrow

#: Rows of one step of reading: some hundred megabytes at most, if each has a large body.
_AT_ONCE: Final = 8192
#: Name of the column with the digests of rows while they are copied.
_DIGEST: Final = "."


def library() -> Any:
    """Return pyarrow with the parts that are used. Raises `ConfigError` where it is not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            "archives need pyarrow, which is not installed; install it with: pip install 'spanpost[archive]'"
        ) from None
    return pyarrow


def schema_of(fields: Sequence[ArchiveField]) -> pyarrow.Schema:
    """Return the schema of a file."""
    pa = library()
    types = {"time": pa.timestamp("us", tz="UTC"), "bool": pa.bool_(), "float": pa.float64(), "int": pa.int64()}
    return pa.schema([(field.name, types.get(field.kind, pa.string())) for field in fields])


def read_csv(data: bytes, fields: Sequence[ArchiveField]) -> tuple[pyarrow.Table, RowsDigest]:
    """Return the rows that PostgreSQL copied as CSV, and their digest: the last column has that of each row.

    What is empty and not quoted is null.
    """
    pa = library()
    schema = schema_of(fields)
    raw = {field.name: pa.int64() if field.kind == "time" else schema.field(field.name).type for field in fields}
    raw[_DIGEST] = pa.string()
    table = pa.csv.read_csv(
        io.BytesIO(data),
        # One block: a row may be longer than any block.
        read_options=pa.csv.ReadOptions(
            column_names=list(raw), block_size=min(len(data) + 1, 2**31 - 1), use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=raw,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["true"],
            false_values=["false"],
        ),
    )
    hashes = bytes.fromhex("".join(table.column(_DIGEST).to_pylist()))
    return table.drop_columns([_DIGEST]).cast(schema), _sum(hashes)


class Writer:
    """Writes the rows of one file. `file` is an open descriptor, which stays open."""

    def __init__(self, file: int, fields: Sequence[ArchiveField], about: dict[str, str]) -> None:
        pa = library()
        self._sink = open(file, "wb", closefd=False)  # noqa: SIM115
        self._schema = schema_of(fields).with_metadata(about)
        self._writer = pa.parquet.ParquetWriter(self._sink, self._schema, compression="zstd", compression_level=3)

    def write(self, table: pyarrow.Table) -> None:
        self._writer.write_table(table.cast(self._schema))

    def close(self) -> None:
        self._writer.close()
        self._sink.close()


def batches(path: Path, columns: Sequence[str] | None = None, size: int = _AT_ONCE) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a file."""
    file = library().parquet.ParquetFile(path)
    try:
        yield from file.iter_batches(batch_size=size, columns=columns)
    finally:
        file.close()


def count_of(path: Path) -> int:
    """Return the number of rows of a file."""
    return int(library().parquet.read_metadata(path).num_rows)


def digest_of_file(path: Path, fields: Sequence[ArchiveField]) -> RowsDigest:
    """Return the digest of the rows of a file, as the database computes it."""
    found = RowsDigest(0, 0, 0)
    for batch in batches(path, [field.name for field in fields]):
        found = found.plus(digest_of_batch(batch, fields))
    return found


def digest_of_batch(batch: pyarrow.RecordBatch, fields: Sequence[ArchiveField]) -> RowsDigest:
    """Return the digest of rows."""
    hashes = b"".join([md5(row.encode(), usedforsecurity=False).digest() for row in _joined(batch, fields).to_pylist()])
    return _sum(hashes)


def _sum(hashes: bytes) -> RowsDigest:
    halves = unpack(f">{len(hashes) // 8}q", hashes)
    return RowsDigest(len(halves) // 2, sum(halves[::2]), sum(halves[1::2]))


def _joined(batch: pyarrow.RecordBatch, fields: Sequence[ArchiveField]) -> Any:
    pa = library()
    texts = [texts_of(batch.column(field.name), field).fill_null(NULL) for field in fields]
    return pa.compute.binary_join_element_wise(*texts, SEPARATOR)


def texts_of(column: Any, field: ArchiveField) -> Any:
    """Return the values of a column as text, as digests have them."""
    pa = library()
    if field.kind == "time":
        return column.cast(pa.int64()).cast(pa.string())
    if field.kind == "float":
        return pa.compute.if_else(pa.compute.is_nan(column), "NaN", column.view(pa.int64()).cast(pa.string()))
    return column.cast(pa.string())


def plain_texts(batch: pyarrow.RecordBatch) -> list[Any]:
    """Return the columns as text, as `sources.typed` reads them."""
    pa = library()
    return [
        column.cast(pa.int64()).cast(pa.string()) if pa.types.is_timestamp(column.type) else column.cast(pa.string())
        for column in batch.columns
    ]


def key_texts(batch: pyarrow.RecordBatch, names: Sequence[str], kinds: dict[str, str]) -> list[list[str]]:
    """Return the values of key columns as PostgreSQL reads them."""
    found = []
    for name in names:
        column = batch.column(name)
        if kinds[name] == "time":
            found.append([at.isoformat() for at in column.to_pylist()])
        elif kinds[name] == "hex":
            found.append([f"\\x{value}" for value in column.to_pylist()])
        else:
            found.append([str(value) for value in column.to_pylist()])
    return found


def fields_in(path: Path) -> list[ArchiveField]:
    """Return the columns of a file. Their SQL is empty: they are the file's own, whatever the table has now."""
    pa = library()
    kinds = {"timestamp[us, tz=UTC]": "time", "bool": "bool", "double": "float", "int64": "int"}
    schema = pa.parquet.read_schema(path)
    return [ArchiveField(field.name, kinds.get(str(field.type), "text"), "", "", "") for field in schema]
