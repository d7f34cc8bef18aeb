"""The model of a training run, ready to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from dsv3data.contracts.errors import BadInput
from dsv3data.model.moe import RoutedExperts
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import newest_checkpoint
from dsv3data.training.hf_import import import_model, is_hf_folder


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with the weights of a checkpoint, and how far it was trained."""

    model: Transformer
    checkpoint: Path
    step: int  # 0 where it is not known
    tokens: int


def load_trained(
    run: Path, *, average: bool = False, dtype: Literal["fp32", "bf16"] = "fp32"
) -> TrainedModel:
    """The newest checkpoint of the training run in `run`, verified byte by byte; or a model in the
    names of the released weights, as `export --format hf-model` writes it.

    Args:
        average: take the moving average of the weights instead of the last ones.
        dtype: of weights and activations; norms and routers stay fp32 in both.

    Raises:
        BadInput: there is none, or none of the average, or weights that fit no model.
        IntegrityError: it is damaged.
    """
    found = _imported(run, average) if is_hf_folder(run) else _trained(run, average)
    if dtype == "bf16":
        _round_weights(found.model)
    return found


def _trained(run: Path, average: bool) -> TrainedModel:
    checkpoint = newest_checkpoint(run)
    model = Transformer(checkpoint.config.model)
    model.load_state_dict(checkpoint.weights(average=average))
    return TrainedModel(
        model=model.eval(),
        checkpoint=checkpoint.path,
        step=checkpoint.step,
        tokens=checkpoint.tokens,
    )


def _imported(folder: Path, average: bool) -> TrainedModel:
    if average:
        raise BadInput(
            "an exported model has no average of the weights beside it",
            where=str(folder),
            effect="nothing was loaded",
            fix="leave --average out, or give the folder of the training run",
        )
    return TrainedModel(model=import_model(folder).eval(), checkpoint=folder, step=0, tokens=0)


def _round_weights(model: Transformer) -> None:
    """Matrices in BF16, half the memory: for reading only, since training needs them in fp32."""
    model.set_precision("bf16")
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding | RoutedExperts):
            module.to(torch.bfloat16)
