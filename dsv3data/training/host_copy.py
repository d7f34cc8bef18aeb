"""Copies in CPU memory of tensors that the next step changes, for threads to read meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def host_buffers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CPU memory of the same shapes and dtypes, not filled; pinned for tensors of a GPU.

    Raises:
        RuntimeError: there is not so much memory; torch has no class of its own for that.
    """
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        for name, tensor in tensors.items()
    }


@torch.no_grad()
def copy_to_host(tensors: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Fill `buffers` with the values of this moment.

    Copies from a GPU run one behind the other in its own order; after the one wait for them the
    next step may change what they came from.
    """
    for name, tensor in tensors.items():
        buffers[name].copy_(tensor, non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.current_stream().synchronize()
