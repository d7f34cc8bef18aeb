"""`dsv3data export`: verified batches in, a folder that appears when it is complete.

The export has no resume: it is a copy, made again from a finished set. The folder's last file,
export.json, says what it was made from and lists the files with their SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.manifest import (
    MANIFEST_NAME,
    PACKED,
    TOKENIZER_NAME,
    TOKENS,
    Manifest,
)
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import atomic_folder, set_aside
from dsv3data.io.manifest_file import check_file, hash_file, read_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data_pipelines.export.hugging_face import write_hugging_face
from dsv3data_pipelines.export.megatron import write_megatron
from dsv3data_pipelines.export.parquet import write_parquet
from dsv3data_pipelines.export.source import Source, open_source

EXPORT_NAME = "export.json"
Format = Literal["megatron", "parquet", "hf"]


class Writer(Protocol):
    """Writes all files of a format into an empty folder."""

    def __call__(self, source: Source, folder: Path, sink: Sink) -> None: ...


FORMATS: Mapping[str, Writer] = {
    "megatron": write_megatron,
    "parquet": write_parquet,
    "hf": write_hugging_face,
}


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A finished export: `files` are name and size, `rows` rows (or documents) in all."""

    out: Path
    rows: int
    files: Mapping[str, int]


def export(folder: Path, *, out: Path, to: Format, sink: Sink, fresh: bool = False) -> ExportResult:
    """Write the token or packed set in `folder` to the new folder `out`.

    Raises:
        BadInput: `folder` holds neither.
        BadConfig: `out` exists (and not `fresh`), or lies in `folder`.
        IntegrityError: damage in the set; nothing was published.
    """
    refuse_output_inside([folder], out)
    manifest = read_manifest(folder, expect=(PACKED, TOKENS))
    if out.exists():
        if not fresh:
            raise BadConfig(
                "the output folder exists already",
                where=str(out),
                effect="nothing was written: an export is made whole, in a new folder",
                fix="give another --out, or --fresh to move this one aside",
            )
        sink.note(f"earlier output moved to {set_aside(out)}")
    rows = sum(record.rows for record in manifest.shards())
    sink.phase("export", total=rows, unit="rows")
    with atomic_folder(out) as partial:
        FORMATS[to](open_source(folder, manifest), partial, sink)
        tokenizer = next(file for file in manifest.files if file.name == TOKENIZER_NAME)
        check_file(folder, tokenizer)
        (partial / TOKENIZER_NAME).write_bytes((folder / TOKENIZER_NAME).read_bytes())
        files = _describe(partial)
        tree = {**_provenance(manifest, to), "files": files}
        (partial / EXPORT_NAME).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    return ExportResult(
        out=out, rows=rows, files={name: facts["size"] for name, facts in files.items()}
    )


def _describe(folder: Path) -> dict[str, Any]:
    described = {}
    for path in sorted(folder.iterdir()):
        size, sha256 = hash_file(path)
        described[path.name] = {"size": size, "sha256": sha256}
    return described


def _provenance(manifest: Manifest, to: Format) -> dict[str, Any]:
    return {
        "format": to,
        "made_from": manifest.format,
        "root": manifest.root,
        "plan": manifest.plan,
        "tokenizer_sha256": manifest.tokenizer.sha256,
        "note": f"see {MANIFEST_NAME} of the set with this root",
    }
