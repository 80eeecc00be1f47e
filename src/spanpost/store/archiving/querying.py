"""Query archives with DuckDB. The SQL sees the archived tables, and neither files nor the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any, Final

from spanpost.model.errors import ConfigError
from spanpost.store.archiving import parquet
from spanpost.store.archiving.listing import Archive
from spanpost.store.archiving.sources import SOURCES, ArchiveField

#: Seconds that a query may take, and rows that it may return.
LONGEST: Final = 600.0
MOST: Final = 1_000_000
#: Characters of a statement, and levels of its expressions: DuckDB takes a minute for 900 nested lists, and a process
#: ends by a signal for 500,000 nested queries.
_LONGEST_TEXT, _DEEPEST = 65_536, 200
_NONE: Final[Mapping[str, Sequence[ArchiveField]]] = MappingProxyType({})


def query(
    directory: Path, archives: Iterable[Archive], sql: str, known: Mapping[str, Sequence[ArchiveField]] = _NONE
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Return the columns and rows of a statement. Each archived table has the name that it has in the database.

    `known` are the columns of tables that may have no archive yet. Raises `ConfigError` for a statement that DuckDB
    refuses or that is too large, and where DuckDB is not installed.
    """
    if len(sql) > _LONGEST_TEXT:
        raise ConfigError(f"the query is refused: it has {len(sql):,} characters, and {_LONGEST_TEXT:,} are the most")
    pa = parquet.library()
    try:
        import duckdb
        import pyarrow.dataset as datasets
    except ImportError:
        raise ConfigError(
            "queries need DuckDB, which is not installed; install it with: pip install 'spanpost[archive]'"
        ) from None
    files: dict[str, list[str]] = {}
    for archive in archives:
        path = directory / archive.path
        if not path.exists():
            raise ConfigError(f"the archive {path} is missing: restore it from a backup first")
        files.setdefault(SOURCES[archive.source].target, []).append(str(path))
    with duckdb.connect(":memory:") as connection:
        for table in known.keys() - files.keys():
            connection.register(table, parquet.schema_of(known[table]).empty_table())
        for table, paths in files.items():
            schema = pa.unify_schemas([pa.parquet.read_schema(path).remove_metadata() for path in paths])
            connection.register(table, datasets.dataset(paths, schema=schema, format="parquet"))
        connection.execute(
            f"SET max_expression_depth = {_DEEPEST}; SET enable_external_access = false; SET lock_configuration = true"
        )
        end = Timer(LONGEST, connection.interrupt)
        end.daemon = True
        end.start()
        try:
            if (count := len(connection.extract_statements(sql))) != 1:
                raise ConfigError(f"the query is refused: give one statement, not {count}")
            # As Arrow: DuckDB's own times need a library of time zones.
            relation: Any = connection.sql(sql)
            found = relation.limit(MOST + 1).to_arrow_table() if relation is not None else pa.table({})
        except duckdb.InterruptException:
            raise ConfigError(f"the query took longer than {LONGEST:.0f} s: name a tenant, or select less") from None
        except duckdb.Error as error:
            if "max_expression_depth" in str(error):
                raise ConfigError(f"the query is refused: it is nested deeper than {_DEEPEST} levels") from None
            raise ConfigError(f"the query is refused: {error}") from error
        finally:
            end.cancel()
        if found.num_rows > MOST:
            raise ConfigError(f"the query has more than {MOST:,} rows: aggregate them, or add a LIMIT")
        return found.column_names, list(zip(*(column.to_pylist() for column in found.columns), strict=True))
