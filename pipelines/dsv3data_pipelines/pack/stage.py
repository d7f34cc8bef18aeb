"""`dsv3data pack` in three steps: plan, do the tasks, publish.

`plan_pack` partitions by domain and key, the tasks may be done by any executor in any order,
`publish_packed` puts their records together. `pack` is all three on one machine, for one context
length or several; there the token shards are read once, in one pass that gives every task its
documents.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsv3data.contracts.config import config_hash, differences, to_dict
from dsv3data.contracts.errors import BadConfig, IntegrityError
from dsv3data.contracts.keys import add_digests
from dsv3data.contracts.manifest import (
    MANIFEST_NAME,
    PACKED,
    TOKENIZER_NAME,
    TOKENS,
    Manifest,
)
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import write_atomic
from dsv3data.io.ledger import WORK_FOLDER, Ledger, UnitRecord
from dsv3data.io.lock import OutputLock
from dsv3data.io.manifest_file import REBUILD, describe_file, read_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data.packing.config import PackConfig
from dsv3data.stages.counts import add_counts
from dsv3data.stages.output import finish_output, open_output, write_run_facts
from dsv3data.stages.units import run_units
from dsv3data_pipelines.pack.exclude import (
    Excluded,
    Exclusions,
    count_excluded,
)
from dsv3data_pipelines.pack.grouped import remove_grouped
from dsv3data_pipelines.pack.partitions import Partitions, partitions_of, refuse_unpackable
from dsv3data_pipelines.pack.scatter import Share, known_shares, note_shares, scattered
from dsv3data_pipelines.pack.unit import BATCH_IDS, PackUnit

# Raised when the same tokens and config would give other bytes than before.
CODE_FORMAT = 3
DEFAULT_MEMORY = 4 << 30

# What a process takes at its peak, measured (benchmarks/pack_memory.py): libraries, vocabulary and
# engine; each token of a partition, as read, split and in samples; each id of a batch of rows,
# twice. One that waits for its workers takes less. Partitions below a quarter of a million tokens
# would have more padding than they are worth.
_BASE_BYTES = 450 << 20
_BYTES_PER_TOKEN = 12
_BYTES_PER_BATCH_ID = 8
_WAITING_BYTES = 200 << 20
_LEAST_PARTITION = 1 << 18
# What may differ between a folder and a run with `update`: which documents, never how.
_DATA = ("tokens_root", "exclude")


@dataclass(frozen=True, kw_only=True)
class PackPlan:
    """What a run will do, fixed by token set, config and exclusions.

    Attributes:
        tree: the plan as the ledger and the manifest hold it.
        tasks: one per (domain, partition); plain data, each to be done by `complete_unit`.
        excluded: what stays out of the rows.
    """

    out: Path
    tokens: Manifest
    vocabulary: Vocabulary
    tree: Mapping[str, Any]
    tasks: tuple[PackUnit, ...]
    excluded: Excluded

    @property
    def size(self) -> int:
        """Tokens of all tasks."""
        return sum(task.size for task in self.tasks)


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """A finished packed set: its folder, context, root hash, and counts (as in the manifest)."""

    out: Path
    context: int
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
    update: bool = False,
    exclusions: Exclusions | None = None,
    memory_bytes: int = DEFAULT_MEMORY,
) -> PackResult:
    """Pack a token set into rows of `config.context` ids; continues an interrupted run.

    Args:
        update: take a folder over that was made of other tokens or with other exclusions, and pack
            only the partitions anew whose documents are others.
        memory_bytes: bounds the working memory; it reaches no byte of the output.

    Raises:
        BadInput: `tokens` is no finished token set, or no document is left to pack.
        BadConfig: `out` lies in `tokens`, or holds the work of another config or token set; a
            partition needs more memory than allowed.
        IntegrityError: a token shard is damaged, or a document went missing on the way.
    """
    (result,) = pack_contexts(
        tokens,
        outs={config.context: out},
        config=config,
        sink=sink,
        workers=workers,
        fresh=fresh,
        update=update,
        exclusions=exclusions,
        memory_bytes=memory_bytes,
    )
    return result


def pack_contexts(
    tokens: Path,
    *,
    outs: Mapping[int, Path],
    config: PackConfig,
    sink: Sink,
    workers: int = 1,
    fresh: bool = False,
    update: bool = False,
    exclusions: Exclusions | None = None,
    memory_bytes: int = DEFAULT_MEMORY,
) -> list[PackResult]:
    """`pack` for several context lengths, each into a folder of its own, from one pass over the
    token shards. Each folder has the bytes of a run for its context alone."""
    started = time.monotonic()
    excluded = exclusions or Exclusions()
    plans = [
        plan_pack(tokens, out=out, config=replace(config, context=context), exclusions=excluded)
        for context, out in outs.items()
    ]
    with ExitStack() as stack:
        for plan in plans:
            if update and not fresh:
                _take_over(plan)
            stack.enter_context(open_output(plan.out, plan.tree, fresh=fresh, sink=sink))
        _at_once([task for plan in plans for task in plan.tasks], workers, memory_bytes, tokens)
        tasks = stack.enter_context(_with_documents(plans, memory_bytes, sink))
        sink.phase("pack", total=sum(task.size for task in tasks), unit="tokens")
        at_once = _at_once(tasks, workers, memory_bytes, tokens)
        if at_once < min(workers, len(tasks)):
            sink.note(f"{at_once} of {workers} workers: --memory suffices for no more")
        records = run_units(tasks, workers=at_once, sink=sink)
        sink.phase("publish")
        step = len(plans[0].tasks)
        results = []
        for number, plan in enumerate(plans):
            packed = publish_packed(plan, records[number * step : (number + 1) * step])
            seconds = time.monotonic() - started
            write_run_facts(plan.out, seconds=seconds, workers=at_once)
            context = plan.tree["pack"]["context"]
            results.append(
                PackResult(
                    out=plan.out,
                    context=context,
                    root=packed.root,
                    counts=packed.counts,
                    seconds=seconds,
                )
            )
    return results


def plan_pack(
    tokens: Path, *, out: Path, config: PackConfig, exclusions: Exclusions | None = None
) -> PackPlan:
    """Check the token set, cut it into partitions, describe the run. Writes nothing.

    Raises:
        BadInput: `tokens` is no finished token set, or no document is left to pack.
        BadConfig: `out` lies in `tokens`.
    """
    refuse_output_inside([tokens], out)
    manifest = read_manifest(tokens, expect=(TOKENS,))
    vocabulary = _vocabulary(tokens, manifest)
    refuse_unpackable(tokens, manifest, config)
    kept_out = exclusions or Exclusions()
    excluded = count_excluded(tokens, manifest, kept_out)
    tree = {
        "code_format": CODE_FORMAT,
        "pack": to_dict(config),
        "tokenizer_sha256": manifest.tokenizer.sha256,
        "tokens_root": manifest.root,
        "exclude": kept_out.to_tree(),
    }
    partitions = partitions_of(manifest, config, excluded.tokens)
    tasks = _tasks(tokens, manifest, config, out, tree, kept_out, partitions)
    return PackPlan(
        out=out,
        tokens=manifest,
        vocabulary=vocabulary,
        tree=tree,
        tasks=tasks,
        excluded=excluded,
    )


def cluster_tasks(plan: PackPlan) -> tuple[PackUnit, ...]:
    """The tasks of a plan for many machines, which group the token shards together."""
    return tuple(replace(task, on_cluster=True) for task in plan.tasks)


def _tasks(
    tokens: Path,
    manifest: Manifest,
    config: PackConfig,
    out: Path,
    tree: Mapping[str, Any],
    exclusions: Exclusions,
    partitions: Partitions,
) -> tuple[PackUnit, ...]:
    # Not of the documents: a task that has the same ones as before has its bytes as well.
    how = {key: value for key, value in tree.items() if key not in _DATA}
    which = {key: tree[key] for key in _DATA}
    return tuple(
        PackUnit(
            number=number,
            domain=domain,
            partition=partition,
            partitions=partitions,
            tokens=tokens,
            tokens_root=manifest.root,
            exclusions=exclusions,
            config=config,
            out=out,
            plan_hash=config_hash(how),
            input=config_hash(which),
            size=manifest.counts["domains"][domain]["tokens"] // count,
        )
        for number, (domain, partition, count) in enumerate(partitions)
    )


@contextlib.contextmanager
def _with_documents(
    plans: Sequence[PackPlan], memory_bytes: int, sink: Sink
) -> Iterator[list[PackUnit]]:
    """The tasks of all plans with their documents at hand, or known to be done.

    All plans have the same partitions. One pass over the token shards; where earlier work may be
    kept, one to see what is new and one for that.
    """
    tokens, first = plans[0].tasks[0].tokens, plans[0]
    partitions = first.tasks[0].partitions

    def pass_over(kept: set[int], name: str) -> contextlib.AbstractContextManager[Any]:
        sink.phase(name, total=first.tokens.counts["tokens"], unit="tokens")
        return scattered(
            tokens,
            first.tokens,
            first.vocabulary,
            partitions=partitions,
            kept=kept,
            exclusions=first.tasks[0].exclusions,
            folder=first.out / WORK_FOLDER / f"documents-{name}",
            memory_bytes=memory_bytes,
            sink=sink,
        )

    shares: dict[int, Share] = {}
    with ExitStack() as stack:
        known = known_shares(first.out, _same_documents(first))
        if known is None:
            fresh = {number for plan in plans for number in _without_entry(plan)}
            shares = dict(stack.enter_context(pass_over(fresh, "read")))
        else:
            shares, fresh = known, set()
        stale = {number for plan in plans for number in _stale(plan, shares)} - fresh
        if stale:
            again = stack.enter_context(pass_over(stale, "gather"))
            shares |= {number: again[number] for number in stale}
        for plan in plans:
            note_shares(plan.out, _same_documents(plan), shares)
        yield [task.given(shares[task.number]) for plan in plans for task in plan.tasks]


def _same_documents(plan: PackPlan) -> str:
    """Hash of what decides which documents each task has."""
    partitions: Partitions = plan.tasks[0].partitions
    names = {key: plan.tree[key] for key in _DATA}
    return config_hash({**names, "counts": partitions.counts, "draws": partitions.draws})


def _without_entry(plan: PackPlan) -> set[int]:
    ledger = Ledger(plan.out)
    return {
        task.number
        for task in plan.tasks
        if ledger.entered(task.name, plan_hash=task.plan_hash) is None
    }


def _stale(plan: PackPlan, shares: Mapping[int, Share]) -> set[int]:
    """Tasks that the ledger does not have with these documents, or whose files are not there.

    A file of the right size with a wrong hash is found when the task is about to be skipped; it
    then gathers its documents by itself.
    """
    ledger = Ledger(plan.out)
    stale = set()
    for task in plan.tasks:
        record = ledger.entered(task.name, plan_hash=task.plan_hash)
        done = record is not None and record.input_sha256 == shares[task.number].sha256
        files = record.files if record is not None else ()
        paths = [(plan.out / file.name, file.size) for file in files]
        if not done or not all(path.is_file() and path.stat().st_size == n for path, n in paths):
            stale.add(task.number)
    return stale


def _at_once(tasks: Sequence[PackUnit], workers: int, memory_bytes: int, tokens: Path) -> int:
    """Workers for which the memory suffices, beside the process that waits for them.

    Raises:
        BadConfig: it does not suffice for one.
    """
    largest = max(tasks, key=lambda task: task.size)
    in_batch = min(largest.size, BATCH_IDS)
    each = _BASE_BYTES + largest.size * _BYTES_PER_TOKEN + in_batch * _BYTES_PER_BATCH_ID
    if each <= memory_bytes:
        return max(1, min(workers, (memory_bytes - _WAITING_BYTES) // each))
    fix = f"--memory {-(-each >> 30)}G"
    smaller = (memory_bytes - _BASE_BYTES) // (_BYTES_PER_TOKEN + _BYTES_PER_BATCH_ID)
    if smaller >= max(_LEAST_PARTITION, largest.config.context):
        fix += f", or smaller partitions, which give other bytes: --set partition_tokens={smaller}"
    raise BadConfig(
        f"the largest partition, {largest.name} with {largest.size:,} tokens, takes about "
        f"{each >> 20:,} MiB, more than the {memory_bytes >> 20:,} MiB of --memory",
        where=str(tokens),
        effect="nothing was packed",
        fix=fix,
    )


def _take_over(plan: PackPlan) -> None:
    """Let a folder go on with other documents: its manifest goes first, since it will not hold.

    Raises:
        BadConfig: more than the documents would change.
    """
    with OutputLock(plan.out):
        ledger = Ledger(plan.out)
        old = ledger.plan_so_far()
        if old is None or old == plan.tree:
            return
        changed = differences(
            {key: value for key, value in old.items() if key not in _DATA},
            {key: value for key, value in plan.tree.items() if key not in _DATA},
        )
        if changed:
            raise BadConfig(
                "--update changes which documents are packed, not how: " + "; ".join(changed[:8]),
                where=str(plan.out),
                effect="nothing was changed; the old output is kept",
                fix="give another --out, or --fresh to move the old output aside and start anew",
            )
        (plan.out / MANIFEST_NAME).unlink(missing_ok=True)
        ledger.forget_plan()


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
    excluded = plan.excluded
    seen = counts["documents"] + excluded.documents
    whole = add_digests([digest, excluded.keys_digest])
    if whole != tokens.keys_digest or seen != tokens.counts["documents"]:
        raise IntegrityError(
            f"packing saw {seen:,} documents of {tokens.counts['documents']:,}, "
            "or other ones than the token set lists",
            where=str(out),
            effect="no manifest was written",
            fix="run `dsv3data verify` on the token set",
        )
    write_atomic(out / TOKENIZER_NAME, plan.vocabulary.tokenizer_json)
    manifest = Manifest(
        format=PACKED,
        plan=plan.tree,
        input={
            "tokens_root": tokens.root,
            "documents": tokens.counts["documents"],
            "excluded": excluded.to_tree(),
        },
        tokenizer=plan.vocabulary.record(),
        counts=counts,
        keys_digest=digest,
        files=(
            *(file for record in records for file in record.files),
            describe_file(out, TOKENIZER_NAME),
        ),
    )
    remove_grouped(out)
    listed = {file.name for file in manifest.files}
    for path in out.glob("lineage-*.parquet"):  # of tasks that have no document any more
        if path.name not in listed:
            path.unlink()
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
