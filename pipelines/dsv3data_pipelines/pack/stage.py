"""`dsv3data pack` in three steps: plan, do the tasks, publish.

`plan_pack` partitions by domain and key, the tasks may be done by any executor in any order,
`publish_packed` puts their records together. `pack` is all three on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from dsv3data.contracts.config import config_hash, to_dict
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.keys import add_digests
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, TOKENS, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import write_atomic
from dsv3data.io.ledger import UnitRecord
from dsv3data.io.manifest_file import REBUILD, describe_file, read_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data.io.shards import ShardReader
from dsv3data.packing.best_fit import length_histogram, plan
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.order import partition_count, partition_of
from dsv3data.stages.counts import add_counts
from dsv3data.stages.output import finish_output, open_output, write_run_facts
from dsv3data.stages.units import run_units
from dsv3data_pipelines.pack.documents import batch_words
from dsv3data_pipelines.pack.unit import PackUnit

# Raised when the same tokens and config would give other bytes than before.
CODE_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """What a run will do, fixed by token set and config.

    Attributes:
        tree: the plan as the ledger and the manifest hold it.
        tasks: one per (domain, partition); plain data, each to be done by `complete_unit`.
    """

    out: Path
    tokens: Manifest
    vocabulary: Vocabulary
    tree: Mapping[str, Any]
    tasks: tuple[PackUnit, ...]

    @property
    def size(self) -> int:
        """Tokens of all tasks."""
        return sum(task.size for task in self.tasks)


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """A finished packed set: its folder, root hash, and counts (as in the manifest)."""

    out: Path
    root: str
    counts: Mapping[str, Any]
    seconds: float


def pack(
    tokens: Path,
    *,
    out: Path,
    config: PackConfig,
    sink: Sink,
    workers: int = 1,
    fresh: bool = False,
) -> PackResult:
    """Pack a token set into rows of `config.context` ids; continues an interrupted run.

    Raises:
        BadInput: `tokens` is no finished token set, or has no document.
        BadConfig: `out` lies in `tokens`, or holds the work of another config or token set.
        IntegrityError: a token shard is damaged, or a document went missing on the way.
    """
    started = time.monotonic()
    plan = plan_pack(tokens, out=out, config=config)
    with open_output(out, plan.tree, fresh=fresh, sink=sink):
        sink.phase("pack", total=plan.size, unit="tokens")
        records = run_units(plan.tasks, workers=workers, sink=sink)
        sink.phase("publish")
        packed = publish_packed(plan, records)
        seconds = time.monotonic() - started
        write_run_facts(out, seconds=seconds, workers=workers)
    return PackResult(out=out, root=packed.root, counts=packed.counts, seconds=seconds)


def plan_pack(tokens: Path, *, out: Path, config: PackConfig) -> PackPlan:
    """Check the token set, cut it into partitions, describe the run. Writes nothing.

    Raises:
        BadInput: `tokens` is no finished token set, or has no document.
        BadConfig: `out` lies in `tokens`.
    """
    refuse_output_inside([tokens], out)
    manifest = read_manifest(tokens, expect=(TOKENS,))
    vocabulary = _vocabulary(tokens, manifest)
    _refuse_empty(tokens, manifest)
    tree = _plan(manifest, config)
    tasks = _tasks(tokens, manifest, config, out, config_hash(tree))
    return PackPlan(out=out, tokens=manifest, vocabulary=vocabulary, tree=tree, tasks=tasks)


def forecast(tokens: Path, *, contexts: Sequence[int], config: PackConfig) -> list[dict[str, Any]]:
    """Rows, padding and cut documents for each context, from document lengths alone.

    Exact for `fim_rate` 0; FIM changes the lengths of the chosen documents by a few ids each.
    """
    for context in contexts:
        replace(config, context=context)  # refuses one out of range
    manifest = read_manifest(tokens, expect=(TOKENS,))
    _refuse_empty(tokens, manifest)
    lengths = _lengths_by_partition(tokens, manifest, config)
    return [_forecast_one(lengths, context) for context in contexts]


def _forecast_one(partitions: Sequence[np.ndarray[Any, Any]], context: int) -> dict[str, Any]:
    rows = padding = cut = ids = 0
    for lengths in partitions:
        table = cut_documents(lengths, context)
        packed = plan(length_histogram(table.length, context), context)
        rows += packed.n_bins
        padding += packed.padding_ids
        cut += int((lengths + 1 > context).sum())
        ids += int(table.length.sum())
    return {
        "context": context,
        "rows": rows,
        "ids": ids,
        "padding": padding,
        "padding_share": padding / (rows * context) if rows else 0.0,
        "documents_cut": cut,
        "disk_bytes_estimate": rows * context * 4,
    }


def _lengths_by_partition(
    tokens: Path, manifest: Manifest, config: PackConfig
) -> list[np.ndarray[Any, Any]]:
    parts: dict[tuple[str, int], list[np.ndarray[Any, Any]]] = {}
    partitions = _partitions(manifest, config)
    for record in manifest.shards():
        for batch in ShardReader(tokens, record).batches():
            lengths = pc.list_value_length(batch.column("ids")).to_numpy()
            words = batch_words(batch)
            for domain in pc.unique(batch.column("domain")).to_pylist():
                here = pc.equal(batch.column("domain"), domain).to_numpy(zero_copy_only=False)
                of = partition_of(words[here], partitions[domain], seed=config.seed)
                for number in np.unique(of).tolist():
                    parts.setdefault((domain, number), []).append(lengths[here][of == number])
    return [np.concatenate(parts[key]) for key in sorted(parts)]


def _partitions(manifest: Manifest, config: PackConfig) -> dict[str, int]:
    """Partitions of each domain, fixed by its token count."""
    return {
        domain: partition_count(figures["tokens"], config.partition_tokens)
        for domain, figures in sorted(manifest.counts["domains"].items())
    }


def _tasks(
    tokens: Path, manifest: Manifest, config: PackConfig, out: Path, plan_hash: str
) -> tuple[PackUnit, ...]:
    partitions = _partitions(manifest, config)
    pairs = [(domain, number) for domain in partitions for number in range(partitions[domain])]
    return tuple(
        PackUnit(
            number=number,
            domain=domain,
            partition=partition,
            n_partitions=partitions[domain],
            tokens=tokens,
            tokens_root=manifest.root,
            config=config,
            out=out,
            plan_hash=plan_hash,
            size=manifest.counts["domains"][domain]["tokens"] // partitions[domain],
        )
        for number, (domain, partition) in enumerate(pairs)
    )


def _plan(manifest: Manifest, config: PackConfig) -> dict[str, Any]:
    return {
        "code_format": CODE_FORMAT,
        "pack": to_dict(config),
        "tokenizer_sha256": manifest.tokenizer.sha256,
        "tokens_root": manifest.root,
    }


def publish_packed(plan: PackPlan, records: Sequence[UnitRecord]) -> Manifest:
    """Put the records of all tasks, in their order, together; the manifest is the last act. Call it
    while holding `open_output(plan.out, plan.tree)`.

    Raises:
        IntegrityError: a document went missing on the way.
    """
    out, tokens = plan.out, plan.tokens
    counts = add_counts([record.counts for record in records])
    digest = add_digests(
        [record.counts["keys_digest"] for record in records if "keys_digest" in record.counts]
    )
    if digest != tokens.keys_digest or counts["documents"] != tokens.counts["documents"]:
        raise IntegrityError(
            f"packing saw {counts['documents']:,} documents of {tokens.counts['documents']:,}, "
            "or other ones than the token set lists",
            where=str(out),
            effect="no manifest was written",
            fix="run `dsv3data verify` on the token set",
        )
    write_atomic(out / TOKENIZER_NAME, plan.vocabulary.tokenizer_json)
    manifest = Manifest(
        format=PACKED,
        plan=plan.tree,
        input={"tokens_root": tokens.root, "documents": tokens.counts["documents"]},
        tokenizer=plan.vocabulary.record(),
        counts=counts,
        keys_digest=digest,
        files=(
            *(file for record in records for file in record.files),
            describe_file(out, TOKENIZER_NAME),
        ),
    )
    finish_output(out, manifest, shards="packed-*.arrow")
    return manifest


def _vocabulary(tokens: Path, manifest: Manifest) -> Vocabulary:
    vocabulary = load_vocabulary(tokens / TOKENIZER_NAME)
    if vocabulary.sha256 != manifest.tokenizer.sha256:
        raise IntegrityError(
            f"the tokenizer in the token set has hash {vocabulary.sha256[:16]}…, "
            f"its manifest says {manifest.tokenizer.sha256[:16]}…",
            where=str(tokens / TOKENIZER_NAME),
            effect="nothing was packed: ids would mean other text",
            fix=REBUILD,
        )
    return vocabulary


def _refuse_empty(tokens: Path, manifest: Manifest) -> None:
    if not manifest.counts["documents"]:
        raise BadInput(
            "the token set has no document",
            where=str(tokens),
            effect="nothing was packed",
            fix="look at its rejected.jsonl for the reasons",
        )
