"""`dsv3data tokenize` in three steps: plan, do the tasks, publish.

`plan_tokenize` fixes everything from the input alone, the tasks may be done by any executor in any
order, `publish_tokens` puts their records together. `tokenize` is all three on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dsv3data.contracts.config import config_hash, to_dict
from dsv3data.contracts.errors import BadInput, TooManyRejected
from dsv3data.contracts.keys import add_digests
from dsv3data.contracts.manifest import (
    REJECTED_NAME,
    TOKENIZER_NAME,
    TOKENS,
    FileRecord,
    Manifest,
)
from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import write_atomic
from dsv3data.io.ledger import UnitRecord
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.places import refuse_output_inside
from dsv3data.io.shards import ShardReader
from dsv3data.io.sources import SourceFile, Unit, discover, is_url, plan_units
from dsv3data.io.sources.documents import NO_TEXT_FIELD
from dsv3data.stages.counts import add_counts
from dsv3data.stages.output import finish_output, open_output, write_run_facts
from dsv3data.stages.units import run_units
from dsv3data_pipelines.tokenize.config import TokenizeConfig
from dsv3data_pipelines.tokenize.limit import limited
from dsv3data_pipelines.tokenize.rejected import first_detail, merge_rejected
from dsv3data_pipelines.tokenize.unit import TokenizeUnit

# Raised when the same input and config would give other bytes than before.
CODE_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class TokenizePlan:
    """What a run will do, fixed by input, tokenizer and config.

    Attributes:
        tree: the plan as the ledger and the manifest hold it.
        tasks: one per unit, in input order; plain data, each to be done by `complete_unit`.
    """

    out: Path
    config: TokenizeConfig
    vocabulary: Vocabulary
    tree: Mapping[str, Any]
    tasks: tuple[TokenizeUnit, ...]

    @property
    def size(self) -> int:
        """Input bytes of all tasks."""
        return sum(task.size for task in self.tasks)


@dataclass(frozen=True, kw_only=True)
class TokenizeResult:
    """A finished token set: its folder, root hash, counts (as in the manifest), and facts of the
    run: those of `run_facts`, and how many documents this run itself encoded."""

    out: Path
    root: str
    counts: Mapping[str, Any]
    seconds: float
    run: Mapping[str, Any]


class RunTasks(Protocol):
    """An executor: completes all tasks (`complete_unit`) and returns their records in order."""

    def __call__(
        self, tasks: Sequence[TokenizeUnit], /, *, workers: int, sink: Sink
    ) -> list[UnitRecord]: ...


def tokenize(
    inputs: Sequence[Path | str],
    *,
    tokenizer: Path,
    out: Path,
    config: TokenizeConfig,
    sink: Sink,
    workers: int = 1,
    max_rejected: float = 0.01,
    fresh: bool = False,
    limit: int | None = None,
    engine: str = "auto",
    check_rate: float = 0.001,
    run_tasks: RunTasks = run_units,
) -> TokenizeResult:
    """Tokenize all documents below `inputs` (paths, URLs) into `out`; continues an interrupted run.

    The bytes of the output depend on the documents, the tokenizer, the config and `limit`, not on
    workers, engine, or who runs the tasks.

    Raises:
        BadInput: no documents, a damaged file, two documents of one id.
        IntegrityError: the engine gave other ids than the oracle.
        BadConfig: `out` lies in an input, or holds the work of another config or input.
        TooManyRejected: published, but more than `max_rejected` of the records were refused.
    """
    started = time.monotonic()
    plan = plan_tokenize(
        inputs,
        tokenizer=tokenizer,
        out=out,
        config=config,
        sink=sink,
        limit=limit,
        engine=engine,
        check_rate=check_rate,
    )
    with open_output(out, plan.tree, fresh=fresh, sink=sink):
        sink.phase("tokenize", total=plan.size, unit="B")
        tally = _Tally(sink)
        records = run_tasks(plan.tasks, workers=workers, sink=tally)
        sink.phase("publish")
        manifest = publish_tokens(plan, records)
        if not manifest.counts["documents"]:
            sink.note("the input holds no document: the token set is empty")
        seconds = time.monotonic() - started
        run = {**run_facts(records), "documents_encoded": tally.documents}
        write_run_facts(out, seconds=seconds, workers=workers, **run)
    check_rejected(manifest.counts, max_rejected, out)
    return TokenizeResult(
        out=out, root=manifest.root, counts=manifest.counts, seconds=seconds, run=run
    )


class _Tally(NullSink):
    """Passes everything on and counts documents: those of units that were found done are not
    told."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.documents = 0

    def advance(self, amount: int, **counts: int) -> None:
        self.documents += counts.get("documents", 0)
        self._sink.advance(amount, **counts)

    def note(self, text: str) -> None:
        self._sink.note(text)


def plan_tokenize(
    inputs: Sequence[Path | str],
    *,
    tokenizer: Path,
    out: Path,
    config: TokenizeConfig,
    sink: Sink,
    limit: int | None = None,
    engine: str = "auto",
    check_rate: float = 0.001,
) -> TokenizePlan:
    """Find the files, cut them into units, describe the run. Writes nothing.

    Args:
        limit: only so many documents, the first ones of the input; finding out which units hold
            them reads these documents once.
        engine, check_rate: how each unit will be encoded and checked; no part of the plan.

    Raises:
        BadInput: no documents, or no usable tokenizer.
        BadConfig: `out` lies in an input.
    """
    refuse_output_inside([Path(path) for path in inputs if not is_url(str(path))], out)
    vocabulary = load_vocabulary(tokenizer)
    files, units = _plan_units(inputs, config, sink)
    tree = _plan(vocabulary, config, files, limit)
    tasks = tuple(
        TokenizeUnit(
            unit=unit,
            tokenizer=tokenizer,
            tokenizer_sha256=vocabulary.sha256,
            config=config,
            out=out,
            plan_hash=config_hash({**tree, "input": {}}),
            limit=unit_limit,
            engine=engine,
            check_rate=check_rate,
        )
        for unit, unit_limit in limited(units, config.read, limit)
    )
    return TokenizePlan(out=out, config=config, vocabulary=vocabulary, tree=tree, tasks=tasks)


def publish_tokens(plan: TokenizePlan, records: Sequence[UnitRecord]) -> Manifest:
    """Put the records of all tasks, in their order, together: rejected.jsonl, tokenizer.json, and
    as the last act the manifest. Call it while holding `open_output(plan.out, plan.tree)`.

    Raises:
        BadInput: two documents of one id.
    """
    out, config = plan.out, plan.config
    shards = [file for record in records for file in record.files if file.name.endswith(".arrow")]
    if config.read.id_key:
        _refuse_twin_keys(out, shards)
    merge_rejected(out, [task.unit for task in plan.tasks], REJECTED_NAME)
    write_atomic(out / TOKENIZER_NAME, plan.vocabulary.tokenizer_json)
    others = [describe_file(out, name) for name in (REJECTED_NAME, TOKENIZER_NAME)]
    manifest = Manifest(
        format=TOKENS,
        plan=plan.tree,
        input={"units": [record.input_sha256 for record in records]},
        tokenizer=plan.vocabulary.record(),
        counts=add_counts([_without_run(record.counts) for record in records]),
        keys_digest=add_digests([record.counts["keys_digest"] for record in records]),
        files=(*shards, *others),
    )
    finish_output(out, manifest, shards="tokens-*.arrow")
    return manifest


def run_facts(records: Sequence[UnitRecord]) -> dict[str, Any]:
    """What is true of how the units were done and not of what they hold: by which engines, and how
    many documents the oracle encoded once more. For run.json."""
    sums = add_counts([record.counts.get("run", {}) for record in records])
    return {"units_by_engine": sums.get("engines", {}), "documents_checked": sums.get("checked", 0)}


def _without_run(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name != "run"}


def _plan_units(
    inputs: Sequence[Path | str], config: TokenizeConfig, sink: Sink
) -> tuple[list[SourceFile], list[Unit]]:
    files, skipped = discover(inputs, text_files=config.read.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files were skipped, the first: {skipped[0]}")
    return files, plan_units(files, unit_bytes=config.unit_bytes)


def _plan(
    vocabulary: Vocabulary,
    config: TokenizeConfig,
    files: Sequence[SourceFile],
    limit: int | None,
) -> dict[str, Any]:
    tree = {
        "code_format": CODE_FORMAT,
        "tokenize": to_dict(config),
        "tokenizer_sha256": vocabulary.sha256,
        "input": {file.name: f"{file.size} bytes" for file in files},
    }
    return tree if limit is None else {**tree, "limit": limit}


def _refuse_twin_keys(out: Path, shards: Sequence[FileRecord]) -> None:
    """Two documents of one id would be one document to everything that follows."""
    keys = np.concatenate(
        [
            np.frombuffer(batch.column("key").buffers()[1], dtype="S16", count=batch.num_rows)
            for batch in _batches(out, shards)
        ]
        or [np.empty(0, dtype="S16")]
    )
    ordered = np.sort(keys)
    twins = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twins):
        places = _places(out, shards, bytes(twins[0]).ljust(16, b"\0"))
        raise BadInput(
            f"{len(twins):,} documents have the id of another document",
            where=" and ".join(places),
            effect="no manifest was written: the token set is not finished",
            fix="make the ids unique, or leave --id-key out",
        )


def _places(out: Path, shards: Sequence[FileRecord], key: bytes) -> list[str]:
    found = []
    for batch in _batches(out, shards):
        rows = batch.select(["key", "source", "position"]).to_pylist()
        found += [f"{row['source']} at {row['position']}" for row in rows if row["key"] == key]
    return found[:2]


def _batches(out: Path, shards: Sequence[FileRecord]) -> Iterator[Any]:
    for record in shards:
        yield from ShardReader(out, record).batches()


def check_rejected(counts: Mapping[str, Any], allowed: float, out: Path) -> None:
    """Raise TooManyRejected if a finished run refused more than the allowed share of records."""
    rejected, documents = counts["rejected"], counts["documents"]
    if rejected and rejected > allowed * (documents + rejected):
        reasons = counts["rejected_by_reason"]
        described = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        fix = "look at the reasons; if they are as expected, raise --max-rejected"
        if 2 * reasons.get(NO_TEXT_FIELD, 0) > rejected:
            first = first_detail(out / REJECTED_NAME, NO_TEXT_FIELD)
            fix = f"name the field that holds the text with --text-key; the first record: {first}"
        raise TooManyRejected(
            f"{rejected:,} of {documents + rejected:,} records were rejected ({described})",
            where=str(out / REJECTED_NAME),
            effect="the token set is finished and holds "
            + ("all other documents" if documents else "no document"),
            fix=fix,
        )
