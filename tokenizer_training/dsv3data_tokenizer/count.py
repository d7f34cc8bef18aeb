"""The counting stage: documents → unique pre-tokens with their counts, in units, resumable.

The result is a data set of its own, which can be inspected with SQL, merged with others, and used
for several vocabularies.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsv3data.contracts.config import config_hash, to_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import NO_TOKENIZER, WORD_COUNTS, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import make_folder
from dsv3data.io.ledger import WORK_FOLDER, UnitRecord
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.sources import (
    Document,
    ReadOptions,
    SourceFile,
    Unit,
    discover,
    input_sha256,
    plan_units,
    read_unit,
)
from dsv3data.stages.counts import add_counts
from dsv3data.stages.output import finish_output, open_output
from dsv3data.stages.units import run_units
from dsv3data_tokenizer.sampling import Sample, SampleConfig, plan_sample
from dsv3data_tokenizer.text_sample import TextSample, merge_samples
from dsv3data_tokenizer.word_counts import SpillingWordCounts, count_words, merge_counts

COUNTS_NAME = "counts.arrow"
SAMPLE_NAME = "sample.jsonl"
# Raised when the same text would give other files than before.
CODE_FORMAT = 2
_LEAST_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class CountConfig:
    """What shapes the counts.

    Attributes:
        unit_bytes: input bytes of a work unit.
        report_bytes: text per domain that is kept as a sample for reports.
        sample: which documents are counted.
    """

    unit_bytes: int = 64 << 20
    report_bytes: int = 1_000_000
    sample: SampleConfig = field(default_factory=SampleConfig)
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True, kw_only=True)
class CountResult:
    """Finished counts and their sample of the text."""

    out: Path
    root: str
    counts: Mapping[str, Any]


def count_corpus(
    inputs: Sequence[Path | str],
    *,
    out: Path,
    config: CountConfig,
    sink: Sink,
    workers: int = 1,
    memory_bytes: int = 4 << 30,
    fresh: bool = False,
) -> CountResult:
    """Count the pre-tokens of the documents below `inputs`; continues an interrupted run.

    Args:
        memory_bytes: bound for the counting tables of all workers; beyond it they are written out
            as sorted runs and merged. Does not reach the result.
    """
    plan = plan_count(inputs, out=out, config=config, sink=sink)
    with open_output(out, plan.tree, fresh=fresh, sink=sink):
        tasks = count_tasks(plan, workers=workers, memory_bytes=memory_bytes // workers, sink=sink)
        sink.phase("count words", total=sum(task.size for task in tasks), unit="B")
        records = run_units(tasks, workers=workers, sink=sink)
        sink.phase("merge counts")
        manifest = publish_counts(plan, records)
    return CountResult(out=out, root=manifest.root, counts=manifest.counts)


@dataclass(frozen=True, kw_only=True)
class CountPlan:
    """What a run will do, fixed by input and config; `tree` is as the ledger and the manifest hold
    it."""

    out: Path
    config: CountConfig
    tree: Mapping[str, Any]
    units: tuple[Unit, ...]

    @property
    def hash(self) -> str:
        """Of all that shapes a unit's result but its input."""
        return config_hash({**self.tree, "input": {}})


def plan_count(
    inputs: Sequence[Path | str], *, out: Path, config: CountConfig, sink: Sink
) -> CountPlan:
    """Find the files and cut them into units. Writes nothing."""
    files, skipped = discover(inputs, text_files=config.read.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files were skipped, the first: {skipped[0]}")
    units = plan_units(files, unit_bytes=config.unit_bytes)
    return CountPlan(out=out, config=config, tree=_plan(config, files), units=tuple(units))


def count_tasks(
    plan: CountPlan, *, workers: int, memory_bytes: int, sink: Sink
) -> tuple[CountUnit, ...]:
    """The tasks, each to be done by `complete_unit`. Call it while holding the output.

    Where the sample asks how large the domains are, that is measured here, by `workers` processes.

    Args:
        memory_bytes: bound for the counting tables of one process.
    """
    sample = _sample(plan, workers, sink)
    # Sorting a table takes up to twice its size beside it.
    limit = max(_LEAST_LIMIT_BYTES, memory_bytes // 3)
    count_words([b"compile once, here"])  # not once in every worker of a fresh installation
    return tuple(
        CountUnit(
            unit=unit,
            read=plan.config.read,
            sample=sample,
            report_bytes=plan.config.report_bytes,
            limit_bytes=limit,
            out=plan.out,
            plan_hash=plan.hash,
        )
        for unit in plan.units
    )


@dataclass(frozen=True, kw_only=True)
class MeasureUnit:
    """A `UnitTask` that measures the bytes of each (domain, source)."""

    unit: Unit
    read: ReadOptions
    out: Path
    plan_hash: str

    @property
    def name(self) -> str:
        return f"measure-{self.unit.name}"

    @property
    def size(self) -> int:
        return self.unit.size

    def input_sha256(self) -> str:
        return input_sha256(self.unit)

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        sizes: dict[str, Counter[str]] = {}
        for document in read_unit(self.unit, self.read):
            if isinstance(document, Document):
                sizes.setdefault(document.domain, Counter())[document.source] += len(document.data)
        sink.advance(self.size)
        return [], {"domains": {domain: dict(sources) for domain, sources in sizes.items()}}


@dataclass(frozen=True, kw_only=True)
class CountUnit:
    """A `UnitTask` that counts the pre-tokens of the sampled documents of a unit."""

    unit: Unit
    read: ReadOptions
    sample: Sample
    report_bytes: int
    limit_bytes: int
    out: Path
    plan_hash: str

    @property
    def name(self) -> str:
        return f"count-{self.unit.name}"

    @property
    def size(self) -> int:
        return self.unit.size

    def input_sha256(self) -> str:
        return input_sha256(self.unit)

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        runs = self.out / WORK_FOLDER / f"runs-{self.unit.name}"
        shutil.rmtree(runs, ignore_errors=True)  # of a killed worker
        make_folder(runs)
        seen = _Seen(self, sink)
        words = SpillingWordCounts(runs, limit_bytes=self.limit_bytes)
        words.add_documents(seen.documents())
        counts_name = f"{WORK_FOLDER}/counts-{self.unit.name}.arrow"
        unique = words.finish(self.out / counts_name)
        sample_name = f"{WORK_FOLDER}/sample-{self.unit.name}.jsonl"
        seen.texts.write(self.out / sample_name)
        shutil.rmtree(runs)
        sink.advance(self.size - seen.bytes.total())
        files = [
            describe_file(self.out, counts_name, rows=unique),
            describe_file(self.out, sample_name),
        ]
        return files, seen.tree()


class _Seen:
    """Documents and bytes per domain, a sample of the text, and rejections, of one unit."""

    def __init__(self, task: CountUnit, sink: Sink) -> None:
        self._task, self._sink = task, sink
        self.documents_of: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.texts = TextSample(task.report_bytes)
        self.rejected = 0

    def documents(self) -> Any:
        """The sampled documents' bytes, counted as they pass."""
        for document in read_unit(self._task.unit, self._task.read):
            if not isinstance(document, Document):
                self.rejected += 1
            elif self._task.sample.takes(document):
                self.documents_of[document.domain] += 1
                self.bytes[document.domain] += len(document.data)
                self.texts.add(document.domain, document.key, document.data)
                self._sink.advance(len(document.data))
                yield document.data

    def tree(self) -> dict[str, Any]:
        domains = {
            name: {"documents": self.documents_of[name], "bytes": self.bytes[name]}
            for name in sorted(self.documents_of)
        }
        return {
            "documents": self.documents_of.total(),
            "bytes": self.bytes.total(),
            "rejected": self.rejected,
            "domains": domains,
        }


def _plan(config: CountConfig, files: Sequence[SourceFile]) -> dict[str, Any]:
    return {
        "code_format": CODE_FORMAT,
        "count": to_dict(config),
        "input": {file.name: f"{file.size} bytes" for file in files},
    }


def _sample(plan: CountPlan, workers: int, sink: Sink) -> Sample:
    if plan.config.sample.takes_everything:
        return plan_sample({}, plan.config.sample)
    tasks = [
        MeasureUnit(unit=unit, read=plan.config.read, out=plan.out, plan_hash=plan.hash)
        for unit in plan.units
    ]
    sink.phase("measure domains", total=sum(unit.size for unit in plan.units), unit="B")
    records = run_units(tasks, workers=workers, sink=sink)
    total = add_counts([record.counts for record in records])
    return plan_sample(total.get("domains", {}), plan.config.sample)


def publish_counts(plan: CountPlan, records: Sequence[UnitRecord]) -> Manifest:
    """Merge the counts of all units and publish the manifest. Call it while holding the output."""
    out = plan.out
    counts = add_counts([record.counts for record in records])
    if not counts.get("documents"):
        rejected = counts.get("rejected", 0)
        raise BadInput(
            "the input has no usable document"
            + (f": all {rejected:,} records were rejected" if rejected else ""),
            where=", ".join(
                sorted({span.file.name for unit in plan.units for span in unit.spans})[:4]
            ),
            effect="no tokenizer was written",
            fix="check --text-key and the encoding of the files",
        )
    parts = [out / file.name for record in records for file in record.files]
    counts["words"] = merge_counts(
        [path for path in parts if path.suffix == ".arrow"], out / COUNTS_NAME
    )
    samples = [path for path in parts if path.suffix == ".jsonl"]
    merge_samples(samples, limit_bytes=plan.config.report_bytes).write(out / SAMPLE_NAME)
    manifest = Manifest(
        format=WORD_COUNTS,
        plan=plan.tree,
        input={"units": [record.input_sha256 for record in records]},
        tokenizer=NO_TOKENIZER,
        counts=counts,
        keys_digest="",
        files=(
            describe_file(out, COUNTS_NAME, rows=counts["words"]),
            describe_file(out, SAMPLE_NAME),
        ),
    )
    finish_output(out, manifest)
    return manifest
