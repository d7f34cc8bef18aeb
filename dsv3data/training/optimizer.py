"""AdamW, and its state under parameter names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dsv3data.model.transformer import Transformer
from dsv3data.training.config import OptimizerConfig


def build_optimizer(model: Transformer, config: OptimizerConfig) -> torch.optim.AdamW:
    """fp32 AdamW over two groups: matrices decay, one-dimensional weights (norms) do not.

    The router biases are buffers: no gradient and no decay ever reaches them.
    """
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.dim() >= 2]
    vectors = [parameter for parameter in parameters if parameter.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_state(model: Transformer, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Flat tensors `<parameter>.<step | exp_avg | exp_avg_sq>`; empty before the first step."""
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer_state(
    model: Transformer, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]
) -> None:
    """The reverse of `optimizer_state`."""
    for name, parameter in model.named_parameters():
        prefix = f"{name}."
        state = {
            key: tensors[prefix + key]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if prefix + key in tensors
        }
        if state:
            optimizer.state[parameter] = state
