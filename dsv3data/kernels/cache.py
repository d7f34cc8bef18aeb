"""What stays in memory between forward and backward, and from one micro-batch to the next."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dsv3data.kernels.dispatch import operations
from dsv3data.kernels.formats import Blocks, Rows, Rows12

CacheFormat = Literal["e4m3", "e5m6"]


class WeightCodes:
    """The E4M3 codes of parameters in both layouts, made anew when one of them has changed.

    Costs two bytes a weight; the weights of a step are quantised once for all its micro-batches.
    """

    def __init__(self) -> None:
        self._state: tuple[tuple[int, int], ...] = ()
        self._codes: tuple[Blocks, Blocks] | None = None

    def of(self, *weights: Tensor) -> tuple[Blocks, Blocks]:
        """(straight, turned) of [E, N, K], or of matrices [N, K] on top of one another."""
        state = tuple((weight._version, weight.data_ptr()) for weight in weights)
        if self._codes is None or state != self._state:
            plain = [weight.detach() for weight in weights]
            whole = torch.cat(plain) if len(plain) > 1 else plain[0]
            w_ERC = whole.unsqueeze(0) if whole.dim() == 2 else whole
            self._codes = operations(whole.device).quantise_blocks(w_ERC)
            self._state = state
        return self._codes


def keep(x_RC: Tensor, q: Rows, fmt: CacheFormat) -> tuple[Tensor, Tensor]:
    """The tensors to save of a GEMM's input: its own E4M3 codes, or E5M6 at half as much again.

    E5M6 is for the input of the linear after attention; its scales are powers of two [§3.3.3].
    """
    if fmt == "e4m3":
        return q.codes_RC, q.scales_GR
    packed = operations(x_RC.device).pack_rows(x_RC)
    return packed.packed_RB, packed.scales_GR


def for_weight_gradient(codes: Tensor, scales_GR: Tensor, width: int, fmt: CacheFormat) -> Rows:
    """The kept input in tiles of 128×1, transposed."""
    kept: Rows | Rows12
    if fmt == "e4m3":
        kept = Rows(codes_RC=codes, scales_GR=scales_GR, width=width)
    else:
        kept = Rows12(packed_RB=codes, scales_GR=scales_GR, width=width)
    return operations(codes.device).retile(kept)
