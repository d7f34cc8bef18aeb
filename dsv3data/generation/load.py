"""The model of a training run, ready to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsv3data.contracts.config import from_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import list_checkpoints, load_weights, verify_checkpoint
from dsv3data.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with the weights of a checkpoint, and how far it was trained."""

    model: Transformer
    checkpoint: Path
    step: int
    tokens: int


def load_trained(run: Path, *, average: bool = False) -> TrainedModel:
    """The newest checkpoint of the training run in `run`, verified byte by byte.

    Args:
        average: take the moving average of the weights instead of the last ones.

    Raises:
        BadInput: there is none, or none of the average.
        IntegrityError: it is damaged.
    """
    found = list_checkpoints(run / "checkpoints")
    if not found:
        raise BadInput(
            "there is no checkpoint of a training run",
            where=str(run / "checkpoints"),
            effect="nothing was generated",
            fix="give the folder that `dsv3data train --out` wrote, after its first checkpoint",
        )
    state = verify_checkpoint(found[0])
    config = from_dict(TrainConfig, state["config"], where=str(found[0]))
    model = Transformer(config.model)
    model.load_state_dict(load_weights(found[0], average=average))
    return TrainedModel(
        model=model.eval(), checkpoint=found[0], step=state["step"], tokens=state["tokens"]
    )
