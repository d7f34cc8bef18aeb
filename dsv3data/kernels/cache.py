"""What stays in memory between forward and backward, and from one micro-batch to the next."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dsv3data.kernels.dispatch import operations
from dsv3data.kernels.formats import (
    E5M6,
    TILE,
    Blocks,
    Rows,
    e5m6_bytes,
    e5m6_values,
    scale_of,
)

CacheFormat = Literal["e4m3", "e5m6"]


class WeightCodes:
    """A parameter's E4M3 codes in both layouts, made anew when the parameter has changed.

    Costs two bytes a weight; the weights of a step are quantised once for all its micro-batches.
    """

    def __init__(self) -> None:
        self._state: tuple[int, int] | None = None
        self._codes: tuple[Blocks, Blocks] | None = None

    def of(self, weight: Tensor) -> tuple[Blocks, Blocks]:
        """(straight, turned) of [N, K] or [E, N, K]."""
        state = (weight._version, weight.data_ptr())
        if self._codes is None or state != self._state:
            w_ERC = weight.detach().unsqueeze(0) if weight.dim() == 2 else weight.detach()
            self._codes = operations(weight.device).quantise_blocks(w_ERC)
            self._state = state
        return self._codes


def keep(x_RC: Tensor, q: Rows, fmt: CacheFormat) -> tuple[Tensor, Tensor]:
    """The tensors to save of a GEMM's input: its own E4M3 codes, or E5M6 at half as much again.

    E5M6 is for the input of the linear after attention; its scales are powers of two [§3.3.3].
    """
    if fmt == "e4m3":
        return q.codes_RC, q.scales_GR
    wide = torch.nn.functional.pad(x_RC.float(), (0, q.codes_RC.shape[1] - q.width))
    tiles_RGt = torch.unflatten(wide, -1, (-1, TILE))
    scales_RG = scale_of(tiles_RGt.abs().amax(dim=-1), E5M6, power_of_two=True)
    scaled = torch.where(scales_RG.isnan().unsqueeze(-1), 0, tiles_RGt / scales_RG.unsqueeze(-1))
    return e5m6_bytes(scaled.flatten(1)), scales_RG.T.contiguous()


def for_weight_gradient(codes: Tensor, scales_GR: Tensor, width: int, fmt: CacheFormat) -> Rows:
    """The kept input in tiles of 128×1, transposed."""
    backend = operations(codes.device)
    if fmt == "e4m3":
        return backend.retile(Rows(codes_RC=codes, scales_GR=scales_GR, width=width))
    tiles_RGt = torch.unflatten(e5m6_values(codes), -1, (-1, TILE))
    x_RC = (tiles_RGt * scales_GR.T.unsqueeze(-1)).flatten(1)[:, :width]
    return backend.quantise_columns(x_RC, power_of_two=True)
