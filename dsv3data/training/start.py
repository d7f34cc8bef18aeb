"""Weights of another run as the start of a new one: how a phase of long context begins [§4.3]."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from dsv3data.contracts.config import differences
from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.progress import Sink
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import newest_checkpoint
from dsv3data.training.config import TrainConfig

# Fields of a model that no weight depends on.
_FREE = ("context", "yarn", "rope_theta")


def load_start(model: Transformer, config: TrainConfig, run: Path, sink: Sink) -> None:
    """Load the newest weights and router biases of the training run in `run`; moments stay at 0.

    Raises:
        BadInput: it has no checkpoint.
        BadConfig: its model has other sizes.
        IntegrityError: the checkpoint is damaged.
    """
    checkpoint = newest_checkpoint(run)
    old, new = (
        {name: value for name, value in asdict(one).items() if name not in _FREE}
        for one in (checkpoint.config.model, config.model)
    )
    different = differences(old, new, prefix="model.")
    if different:
        raise BadConfig(
            "the run to start from has another model: " + "; ".join(different),
            where=str(checkpoint.path),
            effect="nothing was trained",
            fix="give the model of that run; only context, yarn and rope_theta may differ",
        )
    model.load_state_dict(checkpoint.weights())
    sink.note(f"starting from {checkpoint.path} ({checkpoint.tokens:,} tokens)")
