"""The linear layer of attention and feed-forward, in the precision that training asks for.

Embedding, output head, router, norms and the attention core are not made of it: they stay in BF16
or FP32 [§3.3.1]. Legend: K input width, N output width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv3data.kernels.cache import CacheFormat, WeightCodes
from dsv3data.kernels.linear import fp8_linear, fp8_norm_linear
from dsv3data.model.config import Precision
from dsv3data.model.norm import RMSNorm


class Linear(nn.Linear):
    """x · weightᵀ without bias; the weight is fp32 in every precision."""

    def __init__(self, d_in: int, d_out: int, *, keep_input: CacheFormat = "e4m3") -> None:
        super().__init__(d_in, d_out, bias=False)
        self.precision: Precision = "fp32"
        self.keep_input = keep_input
        self.codes = WeightCodes()

    def after_norm(self, norm: RMSNorm, x_K: Tensor) -> Tensor:
        """The layer on norm(x); in FP8 both are one, and the norm is made again when needed."""
        (y_K,) = side_by_side((self,), x_K, self.codes, norm)
        return y_K

    def forward(self, x_K: Tensor) -> Tensor:
        """[..., K] → [..., N] in x's dtype."""
        if self.precision == "fp8":
            return fp8_linear(x_K, self.weight, codes=self.codes, keep_input=self.keep_input)
        if self.precision == "bf16":
            return F.linear(x_K.to(torch.bfloat16), self.weight.to(torch.bfloat16))
        return F.linear(x_K, self.weight)


def side_by_side(
    layers: Sequence[Linear], x_K: Tensor, codes: WeightCodes, norm: RMSNorm | None
) -> tuple[Tensor, ...]:
    """The outputs of layers that read the same x, or norm(x); in FP8 they are views of one."""
    if layers[0].precision == "fp8":
        y_N = in_one(layers, x_K, codes, norm)
        return torch.split(y_N, [layer.out_features for layer in layers], dim=-1)
    read_K = x_K if norm is None else norm(x_K)
    return tuple(layer(read_K) for layer in layers)


def in_one(
    layers: Sequence[Linear], x_K: Tensor, codes: WeightCodes, norm: RMSNorm | None
) -> Tensor:
    """Layers in FP8 as one GEMM, their outputs side by side; `codes` are of their weights together.

    The norm, if there is one, is fused with the quantisation of what it gives.
    """
    weights = [layer.weight for layer in layers]
    if norm is None:
        return fp8_linear(x_K, *weights, codes=codes)
    return fp8_norm_linear(x_K, norm.weight, norm.eps, *weights, codes=codes)
