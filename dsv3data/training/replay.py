"""`dsv3data train --replay STEP`: the batch of a step of a run, rebuilt and looked into.

Which rows a step saw is a function of the set's root, the seed and the rows that went before; the
weights are those of the newest checkpoint before the step that is still there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.contracts.config import from_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.kernels.dispatch import remember_choices
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.stream import SequenceStream
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import (
    Checkpoint,
    checkpoint_before,
    list_checkpoints,
    newest_checkpoint,
)
from dsv3data.training.config import TrainConfig
from dsv3data.training.metrics import JsonLines
from dsv3data.training.nudge import nudge_weights
from dsv3data.training.postmortem import DocumentFinding, Lineage, examine
from dsv3data.training.run import GEMM_CHOICES, check_device


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The batch of one step.

    Attributes:
        weights_step: steps that the weights had seen with which the losses were measured.
        recorded: what metrics.jsonl has of the step.
        row_ids: in the order of the batch.
    """

    step: int
    weights_step: int
    checkpoint: str | None
    recorded: Mapping[str, Any]
    row_ids: tuple[int, ...]
    documents: tuple[DocumentFinding, ...]


def replay_step(run: Path, *, data: Path, step: int) -> Replay:
    """Rebuild step number `step` (from 1) of the training run in `run`; writes nothing.

    Raises:
        BadInput: no such run or step, or the packed set is not the one that it was trained on.
        IntegrityError: damage, of the set or of a checkpoint.
    """
    config = _config_of(run)
    check_device(config)
    remember_choices(run / GEMM_CHOICES)
    records = _records_of(run, step)
    dataset = PackedDataset.open(data)
    stream = SequenceStream(dataset, seed=config.seed, stages=config.data.stages)
    if list_checkpoints(run / "checkpoints"):
        # Any checkpoint knows the set; only the place is another one.
        stream.restore(newest_checkpoint(run).loader)
    stream.place = sum(record["rows"] for record in records[:-1])
    batch = stream.next(records[-1]["rows"])
    before = checkpoint_before(run, step)
    model = _model_of(before, config)
    documents = examine(model, batch, dataset.domains, Lineage(dataset), config)
    return Replay(
        step=step,
        weights_step=before.step if before else 0,
        checkpoint=str(before.path) if before else None,
        recorded=records[-1],
        row_ids=tuple(batch.row_ids.tolist()),
        documents=tuple(documents),
    )


def _config_of(run: Path) -> TrainConfig:
    path = run / "config.json"
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"there is no training run to replay: {error}",
            where=str(path),
            effect="nothing was read",
            fix="give --out the folder of a run",
        ) from error
    return from_dict(TrainConfig, tree, where=str(path))


def _records_of(run: Path, step: int) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl up to that step."""
    log = JsonLines(run / "metrics.jsonl")
    records = log.read()
    if not 1 <= step <= len(records):
        raise BadInput(
            f"the run has no step {step:,}",
            where=f"{log.path}, steps 1 to {len(records):,}",
            effect="nothing was replayed",
            fix="give a step that was trained",
        )
    return records[:step]


def _model_of(checkpoint: Checkpoint | None, config: TrainConfig) -> Transformer:
    """Its weights; the initial ones where none is kept."""
    model = Transformer(config.model)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.weights())
    else:
        init_weights(model, config.seed)
        nudge_weights(model, config.nudge, config.seed)
    model = model.to(config.device)
    model.set_precision(config.precision)
    model.set_attention(config.attention)
    return model
