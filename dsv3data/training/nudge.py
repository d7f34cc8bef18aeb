"""Initial weights moved by next to nothing: how far apart two such runs end is noise."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def nudge_weights(model: nn.Module, relative: float, seed: int) -> None:
    """Multiply every weight by 1 + `relative` · N(0, 1), in place; 0 leaves them bitwise alone."""
    if relative == 0:
        return
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.mul_(1 + relative * noise.to(parameter.device))
