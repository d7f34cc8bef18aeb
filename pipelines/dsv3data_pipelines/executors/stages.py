"""The stages that clusters can run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.ledger import UnitRecord
from dsv3data.stages.output import open_output
from dsv3data.stages.stage import Stage
from dsv3data_pipelines.pack import PackPlan, cluster_tasks, publish_packed
from dsv3data_pipelines.tokenize import TokenizePlan, publish_tokens
from dsv3data_pipelines.tokenize.stage import check_rejected, run_facts
from dsv3data_tokenizer.count import CountPlan, count_tasks, publish_counts


def tokenize_stage(plan: TokenizePlan, *, max_rejected: float) -> Stage:
    """`dsv3data tokenize` for an executor."""
    return Stage(
        name="tokenize",
        measure="B",
        out=plan.out,
        plan=plan.tree,
        units=plan.tasks,
        publish=partial(publish_tokens, plan),
        facts=run_facts,
        check=partial(_check_rejected, plan, max_rejected),
    )


def pack_stage(plan: PackPlan) -> Stage:
    """`dsv3data pack` for an executor."""
    return Stage(
        name="pack",
        measure="tokens",
        out=plan.out,
        plan=plan.tree,
        units=cluster_tasks(plan),
        publish=partial(publish_packed, plan),
        facts=_no_facts,
        check=_nothing_to_check,
    )


def count_stage(plan: CountPlan, *, memory_bytes: int, fresh: bool, sink: Sink) -> Stage:
    """`dsv3data tokenizer count` for an executor.

    A sample by shares of domains needs their sizes: then the input is read once here, before
    anything is dealt out.

    Args:
        memory_bytes: bound for the counting tables of each task.
        fresh: move old output aside.
    """
    cores = len(os.sched_getaffinity(0))
    with open_output(plan.out, plan.tree, fresh=fresh, sink=sink):
        tasks = count_tasks(plan, workers=cores, memory_bytes=memory_bytes, sink=sink)
    return Stage(
        name="count",
        measure="B",
        out=plan.out,
        plan=plan.tree,
        units=tasks,
        publish=partial(publish_counts, plan),
        facts=_no_facts,
        check=_nothing_to_check,
    )


def _check_rejected(plan: TokenizePlan, max_rejected: float, manifest: Manifest) -> None:
    check_rejected(manifest.counts, max_rejected, plan.out)


def _no_facts(records: Sequence[UnitRecord]) -> Mapping[str, Any]:
    return {}


def _nothing_to_check(manifest: Manifest) -> None:
    """A packed set, or a table of counts, is right or an error."""
