"""RMSNorm. Legend: … any leading axes, D width of the last axis."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dsv3data.kernels.linear import inverse_rms, rmsnorm_backward
from dsv3data.model.recompute import remade


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis; the mean in fp32 [§4.2]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.recompute = False

    def forward(self, x_D: Tensor) -> Tensor:
        if self.recompute:
            return remade(self._normed, x_D, weights=(self.weight,))
        return self._normed(x_D)

    def _normed(self, x_D: Tensor) -> Tensor:
        if x_D.is_cuda:
            return F.rms_norm(x_D.float(), self.weight.shape, self.weight, self.eps).to(x_D.dtype)
        y_TD = _RMSNorm.apply(x_D.flatten(0, -2), self.weight, self.eps)  # type: ignore[no-untyped-call]
        return cast(Tensor, y_TD).view(x_D.shape)


class _RMSNorm(torch.autograd.Function):
    """What a GPU has as one kernel: on a CPU torch writes it as a dozen operations."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x_TD, weight_D)
        ctx.eps = eps
        x = x_TD.float()
        return (x * inverse_rms(x, eps)).mul_(weight_D).to(x_TD.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, None]:
        x_TD, weight_D = ctx.saved_tensors
        return *rmsnorm_backward(x_TD, weight_D, ctx.eps, grad_TD), None
