"""RMSNorm. Legend: … any leading axes, D width of the last axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis; the mean in fp32 [§4.2]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_D: Tensor) -> Tensor:
        normed_D = F.rms_norm(x_D.float(), self.weight.shape, self.weight, self.eps)
        return normed_D.to(x_D.dtype)
