"""Weights in E4M3 with a scale per 128×128, as the released DeepSeek-V3 files hold them [§3.3.2].

Beside `NAME` stands `NAME_scale_inv`, fp32 [rows / 128, columns / 128], each rounded up: what a
block's codes are multiplied by. In FP8 are the matrices of attention, feed-forward and experts;
embedding, head, norms, routers and the MTP projection are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dsv3data.contracts.errors import BadInput
from dsv3data.kernels.formats import TILE
from dsv3data.kernels.reference import quantise_blocks

SCALE = "_scale_inv"
_IN_FP8 = re.compile(
    r"\.(self_attn\.(q_a|q_b|kv_b|o)_proj|self_attn\.kv_a_proj_with_mqa"
    r"|mlp\.(|shared_experts\.|experts\.\d+\.)(gate|up|down)_proj)\.weight"
)

# Of the published config.json.
QUANTIZATION_CONFIG: dict[str, Any] = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [TILE, TILE],
}


def is_in_fp8(name: str) -> bool:
    """Whether the released files hold the tensor of this name in FP8."""
    return _IN_FP8.search(name) is not None


def in_fp8(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [N, K] and scales of a matrix."""
    blocks, _ = quantise_blocks(weight_NK.unsqueeze(0))
    codes_NK = blocks.codes_ERC[0, : blocks.height, : blocks.width]
    return codes_NK.contiguous(), blocks.scales_Erg[0]


def from_fp8(codes_NK: Tensor, scales_rg: Tensor) -> Tensor:
    """fp32 [N, K]: the reverse of `in_fp8`."""
    scales_NK = scales_rg.float().repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)
    return codes_NK.float() * scales_NK[: codes_NK.shape[0], : codes_NK.shape[1]]


def decoded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights in fp32, under their names; scales are used up.

    Raises:
        BadInput: a matrix in FP8 has no scales of its size, or scales have no matrix.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    decoded_tensors = {name: _decoded(name, tensor, tensors) for name, tensor in plain.items()}
    for name in tensors.keys() - plain.keys():
        matrix = plain.get(name.removesuffix(SCALE))
        if matrix is None or matrix.dtype != torch.float8_e4m3fn:
            raise _bad("there are scales without a matrix in FP8", name)
    return decoded_tensors


def _decoded(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    if tensor.dtype != torch.float8_e4m3fn:
        return tensor.float()
    scales = tensors.get(name + SCALE)
    expected = [-(-size // TILE) for size in tensor.shape]
    if scales is None or list(scales.shape) != expected:
        found = "none" if scales is None else str(list(scales.shape))
        raise _bad(f"a matrix in FP8 needs scales of {expected}, there are {found}", name + SCALE)
    return from_fp8(tensor, scales)


def _bad(what: str, name: str) -> BadInput:
    return BadInput(
        what,
        where=name,
        effect="no weights were loaded",
        fix="export or download the weights again; scales are blocks of 128×128",
    )
