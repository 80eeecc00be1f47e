"""Commands of ``spanpost audit`` for the sealed log: verify, prove, consistency, export."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanpost.cli.audit import audit
from spanpost.cli.options import DatabaseUrl, DataDir, Json, note_read, print_json, settings_of
from spanpost.model.acts import ContentKind
from spanpost.model.errors import ConfigError
from spanpost.text.sanitise import line

if TYPE_CHECKING:
    from spanpost.store.sealing.verified import Show

__all__ = ["audit"]

_LARGEST = 1 << 20
_NOTHING = "nothing is sealed: set sealing.enabled = true"
#: Notes of the log that `verify` prints.
_NOTES = 50
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Verifier's key that you trust, from outside the database (`spanpost audit keys`). Repeatable.",
    ),
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only the log of this tenant.")]


@audit.command(short_help="Verify that no audit row was changed.")
def verify(
    checkpoint_files: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="File with checkpoints that left the premises. Repeatable."),
    ] = None,
    key: Keys = None,
    tenant: Tenant = None,
    require_archives: Annotated[
        bool, typer.Option("--require-archives", help="Exit with 1 where files of archives could not be checked.")
    ] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Verify that no audit row and no act was changed, deleted, inserted or reordered since it was sealed. Names each.
    Exits with 1 if something is wrong.

    Rows that were archived are read in their files, below `retention.directory`.

    Give --checkpoint to also find a whole new log, which the owner of database and key can write. Without it, only
    changes that were made without the private key are found.
    """
    from msgspec import to_builtins

    from spanpost.runtime import sealed_logs

    notes = [note for path in checkpoint_files or () for note in _notes(path)]
    with _progress("verifying") as show:
        found = sealed_logs.verify_logs(settings_of(database_url, data_dir), tenant, notes, _trusted(key), show)
    if as_json:
        print_json(to_builtins(found))
    else:
        for finding in found.findings:
            leaf = f" leaf {finding.leaf}:" if finding.leaf is not None else ""
            print(f"{finding.tenant or '(no tenant)'}:{leaf} {finding.what}")
        if found.more_findings:
            print(f"and {found.more_findings:,} more")
        for note in found.let_go[:_NOTES]:
            what = "archived" if note.archive else "erased" if note.kind == "erased" else "pruned"
            said = f"{note.at:%Y-%m-%d %H:%M} {note.tenant or '(no tenant)'}: {note.rows:,} rows {what} by {note.actor}"
            print(line(f"{said}: {note.reason}", 300))
        if len(found.let_go) > _NOTES:
            print("earlier ones: SELECT * FROM seal_notes ORDER BY at")
        wrong = len(found.findings) + found.more_findings
        print(f"{'NOT VALID: ' + format(wrong, ',') + ' findings' if wrong else 'valid'}; {_counts(found)}")
        if found.not_checked:
            why = line(found.not_checked_why, 300)
            print(f"NOT CHECKED: {found.not_checked:,} archives: {why}", file=sys.stderr)
        if not found.logs:
            print(_NOTHING, file=sys.stderr)
        elif not notes:
            print("compared with no checkpoint from outside (--checkpoint FILE)", file=sys.stderr)
    if found.findings or (require_archives and found.not_checked):
        raise typer.Exit(1)


def _counts(found: Any) -> str:
    parts = [
        f"{found.logs} logs",
        f"{found.leaves:,} leaves",
        f"{found.rows:,} rows unchanged",
        f"{found.checkpoints:,} checkpoints",
    ]
    more = (
        (found.erased, "erased"),
        (found.archived, "archived"),
        (found.unsigned, "not signed yet"),
        (found.archives, "archives read"),
        (found.not_checked, "archives not checked"),
    )
    for count, words in more:
        if count:
            parts.append(f"{count:,} {words}")
    return ", ".join(parts)


@audit.command(short_help="Prove that an event or an act was recorded.")
def prove(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="event_id of an event, or id of an act: a UUID.")],
    with_content: Annotated[
        bool, typer.Option("--content", help="Include the content, so that the proof shows what was recorded.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print a proof that an event or an act is in the log. `audit check-proof` checks it without the database."""
    from uuid import UUID

    from msgspec import to_builtins

    from spanpost.runtime import sealed_logs

    try:
        row = UUID(event)
    except ValueError:
        raise ConfigError(f"{event[:100]!r} is no UUID: give an event_id of agent_events or an act's id") from None
    settings = settings_of(database_url, data_dir)
    if with_content:
        note_read(settings, ContentKind.PROOF, detail=str(row))
    found = sealed_logs.prove_row(settings, row, with_content=with_content)
    print_json(to_builtins(found if len(found) > 1 else found[0]))


@audit.command("check-proof", short_help="Check a proof, without the database.")
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output of `audit prove` or `audit consistency`.")],
    key: Keys = None,
) -> None:
    """Check a proof against verifiers' keys that you trust, and print what it shows."""
    import msgspec

    from spanpost.store.sealing import proving
    from spanpost.store.sealing.checkpoints import BadNote

    trusted = _trusted(key)
    if not trusted:
        raise ConfigError("which key do you trust? give it with --key (`spanpost audit keys` printed it)")
    try:
        found = msgspec.json.decode(_text(file), type=proving.Proof | proving.Consistency | list[proving.Proof])
    except (msgspec.DecodeError, msgspec.ValidationError):
        found = None
    try:
        if isinstance(found, proving.Consistency):
            proving.check_consistency(found, trusted)
            print("valid: the second checkpoint continues the first")
        elif found:
            proofs = found if isinstance(found, list) else [found]
            print_json([proving.check(proof, trusted) for proof in proofs])
        else:
            raise BadNote("this is no proof")
    except BadNote as error:
        raise ConfigError(f"{file}: {error}") from None


@audit.command(short_help="Prove that one checkpoint continues another.")
def consistency(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Older checkpoint: its size, or a file with it.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Newer checkpoint: its size, or a file with it.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Tenant of the log.")] = "default",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print a proof that the log of the newer checkpoint begins with all leaves of the older one."""
    from msgspec import to_builtins

    from spanpost.runtime import sealed_logs
    from spanpost.store.sealing.checkpoints import BadNote

    ends = [
        int(each) if each.isascii() and each.isdigit() and len(each) < 19 else _notes(Path(each))[-1]
        for each in (old, new)
    ]
    try:
        found = sealed_logs.prove_consistency(settings_of(database_url, data_dir), tenant, *ends)
    except BadNote as error:
        raise ConfigError(str(error)) from None
    print_json(to_builtins(found))


@audit.command(short_help="Export the logs as files.")
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory; each log gets one in it.")],
    tenant: Tenant = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Export the logs as files in the layout tlog-tiles (C2SP), which other verifiers read. Repeats add new leaves."""
    from spanpost.runtime import sealed_logs

    found = sealed_logs.export_logs(settings_of(database_url, data_dir), directory, tenant)
    if not found:
        print(_NOTHING, file=sys.stderr)
    for name, size in found.items():
        print(f"{name or '(no tenant)'}: {size:,} leaves" if size else f"{name or '(no tenant)'}: not signed yet")


@audit.command(short_help="List the logs.")
def logs(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """List the logs: their leaves, the last checkpoint, and when one last left the premises."""
    from spanpost.cli import tables
    from spanpost.runtime import sealed_logs

    found = sealed_logs.list_logs(settings_of(database_url, data_dir))
    if as_json:
        print_json([{**row, **{k: v.isoformat() for k, v in row.items() if hasattr(v, "isoformat")}} for row in found])
        return
    cells = [
        (
            row["tenant"],
            row["origin"],
            row["size"],
            row["signed"] or 0,
            f"{row['published']} by {row['way']}" if row["published"] else "never",
        )
        for row in found
    ]
    tables.print_rows(("tenant", "log", "leaves", "signed", "left the premises"), cells)


@audit.command(short_help="Print the checkpoints of a log.")
def checkpoints(
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Tenant of the log.")] = "default",
    last: Annotated[bool, typer.Option("--last", help="Only the newest.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print the signed checkpoints of a log, oldest first: keep them where the database's owner cannot write."""
    from spanpost.runtime import sealed_logs

    found = sealed_logs.list_checkpoints(settings_of(database_url, data_dir), tenant)
    if not found:
        print("the log is not signed yet: `spanpost check` says whether a gateway seals", file=sys.stderr)
    print("\n".join(found[-1:] if last else found), end="")


@audit.command(short_help="Print the keys that verify checkpoints.")
def keys(as_json: Json = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Print the public keys that verify checkpoints, one for each log and key: give them to verifiers."""
    from spanpost.runtime import sealed_logs

    found = sealed_logs.verifier_keys(settings_of(database_url, data_dir))
    if as_json:
        print_json([{**row, **{k: v.isoformat() for k, v in row.items() if hasattr(v, "isoformat")}} for row in found])
        return
    if not found:
        print(_NOTHING, file=sys.stderr)
    for row in found:
        print(row["key"])


def _trusted(given: list[str] | None) -> list[bytes]:
    from spanpost.store.sealing.checkpoints import BadNote, public_of

    try:
        return [public_of(each)[1] for each in given or ()]
    except BadNote as error:
        raise ConfigError(f"--key: {error}") from None


def _notes(path: Path) -> list[str]:
    """Return the checkpoints in a file: one, or several after one another as `sealing.file` has them."""
    found: list[str] = []
    lines: list[str] = []
    for each in _text(path).splitlines():
        if each or len(lines) == 3:
            lines.append(each)
        elif lines:
            found.append("\n".join([*lines, ""]))
            lines = []
    if lines:
        found.append("\n".join([*lines, ""]))
    if not found:
        raise ConfigError(f"{path} holds no checkpoint")
    return found


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LARGEST * 64)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


@contextmanager
def _progress(what: str) -> Iterator[Show]:
    """Show a bar on a terminal."""
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
