"""The stages that clusters can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dsv3data.contracts.manifest import Manifest
from dsv3data.io.ledger import UnitRecord
from dsv3data.stages.stage import Stage
from dsv3data_pipelines.pack import PackPlan, cluster_tasks, publish_packed
from dsv3data_pipelines.tokenize import TokenizePlan, publish_tokens
from dsv3data_pipelines.tokenize.stage import check_rejected, run_facts


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


def _check_rejected(plan: TokenizePlan, max_rejected: float, manifest: Manifest) -> None:
    check_rejected(manifest.counts, max_rejected, plan.out)


def _no_facts(records: Sequence[UnitRecord]) -> Mapping[str, Any]:
    return {}


def _nothing_to_check(manifest: Manifest) -> None:
    """A packed set is right or an error."""
