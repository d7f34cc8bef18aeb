"""`dsv3data export`: verified batches in, files of another format out, export.json last.

Work units are the set's shards, each a file; for Megatron the domains of a packed set, each a pair
of files, or a token set as a whole, whose shards hold many domains. A killed export goes on where
it stopped, like every stage.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dsv3data.contracts.config import config_hash
from dsv3data.contracts.manifest import (
    MANIFEST_NAME,
    PACKED,
    TOKENIZER_NAME,
    TOKENS,
    FileRecord,
    Manifest,
    root_hash,
)
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.atomic import write_atomic
from dsv3data.io.manifest_file import describe_file, read_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data.stages.output import open_output
from dsv3data.stages.units import run_units
from dsv3data_pipelines.export.hugging_face import index_files, write_arrow_stream
from dsv3data_pipelines.export.megatron import prefix_of, write_megatron
from dsv3data_pipelines.export.parquet import write_parquet
from dsv3data_pipelines.export.source import Source

EXPORT_NAME = "export.json"
# Raised when the same set would be exported to other bytes.
CODE_FORMAT = 1
# A process takes two seconds to start.
_BYTES_WORTH_A_PROCESS = 256 << 20
Format = Literal["megatron", "parquet", "hf"]
FORMATS: tuple[Format, ...] = ("megatron", "parquet", "hf")


@dataclass(frozen=True, kw_only=True)
class ExportUnit:
    """A `UnitTask`: some shards of the set, and the files that are made of them."""

    name: str
    to: Format
    files: tuple[str, ...]
    source: Source
    out: Path
    plan_hash: str

    @property
    def size(self) -> int:
        return sum(record.rows for record in self.source.shards)

    def input_sha256(self) -> str:
        return root_hash(self.source.shards)

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        if self.to == "megatron":
            write_megatron(self.source, self.out, sink)
        else:
            write = write_parquet if self.to == "parquet" else write_arrow_stream
            write(self.source, self.out / self.files[0], sink)
        return [describe_file(self.out, name) for name in self.files], {}


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What an export will do: its units, in order, and what it is made from."""

    out: Path
    to: Format
    manifest: Manifest
    tokenizer_json: bytes
    tree: Mapping[str, Any]
    units: tuple[ExportUnit, ...]

    @property
    def rows(self) -> int:
        """Rows or documents in all."""
        return sum(unit.size for unit in self.units)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A finished export: `files` are name and size, `rows` rows (or documents) in all."""

    out: Path
    rows: int
    files: Mapping[str, int]


def plan_export(folder: Path, *, out: Path, to: Format) -> ExportPlan:
    """What `export` would do; nothing is written.

    Raises:
        BadInput: `folder` holds neither a token set nor a packed set.
        BadConfig: `out` lies in `folder`.
        IntegrityError: a damaged manifest or tokenizer.
    """
    refuse_output_inside([folder], out)
    manifest = read_manifest(folder, expect=(PACKED, TOKENS))
    vocabulary = load_vocabulary(folder / TOKENIZER_NAME)
    alone = dataclasses.replace(manifest, files=())  # what travels with each unit
    tree = {
        "code_format": CODE_FORMAT,
        "format": to,
        "made_from": manifest.format,
        "root": manifest.root,
    }
    units = tuple(
        ExportUnit(
            name=name,
            to=to,
            files=files,
            source=Source(folder=folder, manifest=alone, shards=shards, eos=vocabulary.control.eos),
            out=out,
            plan_hash=config_hash(tree),
        )
        for name, files, shards in _parts(manifest, to)
    )
    return ExportPlan(
        out=out,
        to=to,
        manifest=manifest,
        tokenizer_json=vocabulary.tokenizer_json,
        tree=tree,
        units=units,
    )


def export(
    folder: Path, *, out: Path, to: Format, sink: Sink, fresh: bool = False, workers: int = 1
) -> ExportResult:
    """Write the token or packed set in `folder` to the folder `out`, or finish what is there.

    Raises:
        BadInput: `folder` holds neither.
        BadConfig: `out` holds other work (and not `fresh`), or lies in `folder`.
        IntegrityError: damage in the set; there is no export.json then.
    """
    plan = plan_export(folder, out=out, to=to)
    with open_output(out, plan.tree, fresh=fresh, sink=sink):
        sink.phase("export", total=plan.rows, unit="rows")
        records = run_units(plan.units, workers=min(workers, _worth(plan)), sink=sink)
        small = {TOKENIZER_NAME: plan.tokenizer_json}
        if to == "hf":
            names = [name for unit in plan.units for name in unit.files]
            small |= index_files(plan.manifest.root, names)
        for name, data in small.items():
            write_atomic(out / name, data)
        made = [file for record in records for file in record.files]
        made += [describe_file(out, name) for name in small]
        made.sort(key=lambda file: file.name)
        files = {file.name: {"size": file.size, "sha256": file.sha256} for file in made}
        tree = {**_provenance(plan), "files": files}
        write_atomic(out / EXPORT_NAME, (json.dumps(tree, indent=1) + "\n").encode())
    return ExportResult(out=out, rows=plan.rows, files={file.name: file.size for file in made})


def _worth(plan: ExportPlan) -> int:
    """Processes that are worth their start."""
    size = sum(record.size for record in plan.manifest.shards())
    return 1 + size // _BYTES_WORTH_A_PROCESS


def _parts(
    manifest: Manifest, to: Format
) -> list[tuple[str, tuple[str, ...], tuple[FileRecord, ...]]]:
    """For each unit its name, its files, and the shards that they are made of."""
    shards = manifest.shards()
    if to != "megatron":
        stems = [record.name.removesuffix(".arrow") for record in shards]
        names = [
            f"{stem}.parquet" if to == "parquet" else f"data-{n:05d}-of-{len(shards):05d}.arrow"
            for n, stem in enumerate(stems)
        ]
        return [
            (stem, (name,), (record,))
            for stem, name, record in zip(stems, names, shards, strict=True)
        ]
    if manifest.format == TOKENS:
        counts = manifest.counts["domains"]
        domains = [domain for domain in counts if counts[domain]["documents"]]
        return [("all", _pairs(domains), tuple(shards))]
    by_domain: dict[str, list[FileRecord]] = {}
    for record in shards:
        domain = record.name.removeprefix("packed-").rpartition("-")[0]
        by_domain.setdefault(domain, []).append(record)
    return [(domain, _pairs([domain]), tuple(of)) for domain, of in by_domain.items()]


def _pairs(domains: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{prefix_of(domain)}{end}" for domain in domains for end in (".bin", ".idx"))


def _provenance(plan: ExportPlan) -> dict[str, Any]:
    return {
        "format": plan.to,
        "made_from": plan.manifest.format,
        "root": plan.manifest.root,
        "plan": plan.manifest.plan,
        "tokenizer_sha256": plan.manifest.tokenizer.sha256,
        "note": f"see {MANIFEST_NAME} of the set with this root",
    }
