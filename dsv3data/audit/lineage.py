"""Lineage files of a packed set, checked before they are believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsv3data.audit.checks import fail
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import FileRecord, Manifest
from dsv3data.contracts.schemas import lineage_schema
from dsv3data.io.manifest_file import check_file


def lineage_record(folder: Path, manifest: Manifest, shard: FileRecord) -> FileRecord:
    """What the manifest says of a shard's lineage file."""
    record = manifest.lineage_of(shard)
    if record is None:
        fail("the shard has no lineage file", folder / shard.name)
    return record


def read_lineage(
    folder: Path, manifest: Manifest, shard: FileRecord, columns: Sequence[str]
) -> pa.Table:
    """Some columns of a shard's lineage, whose bytes are those of the manifest.

    Raises:
        IntegrityError: damage.
        BadInput: the lineage lacks a column of the format.
    """
    record = lineage_record(folder, manifest, shard)
    check_file(folder, record)
    return lineage_table(folder / record.name, columns)


def lineage_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """`read_lineage` of a file that has been checked.

    Raises:
        IntegrityError: not a table of this format.
        BadInput: it lacks a column of the format.
    """
    try:
        # `pq.read_table` imports pandas where it is installed, a second or two of each process.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_columns(file.schema_arrow, path)
            return file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        fail(f"the lineage cannot be read: {str(error).splitlines()[0]}", path)


def _check_columns(found: pa.Schema, path: Path) -> None:
    expected = lineage_schema()
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        raise BadInput(
            f"the lineage lacks {', '.join(missing)}: an unreleased state of dsv3data wrote it",
            where=str(path),
            effect="nothing was read from it",
            fix="pack the token set again, with --fresh",
        )
    if not found.equals(expected, check_metadata=False):
        fail("the lineage has other columns", path)
