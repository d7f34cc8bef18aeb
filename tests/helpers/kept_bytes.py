"""Bytes that the linear layers of a model keep between forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from dsv3data.model.block import Block
from dsv3data.model.config import Precision
from dsv3data.model.linear import side_by_side
from dsv3data.model.moe import MoE
from dsv3data.model.transformer import Transformer


def linear_activation_bytes(model: Transformer, precision: Precision, *, n_tokens: int) -> int:
    """Of one dense and one MoE block on `n_tokens` tokens in BF16: each linear layer or expert with
    the norm or SwiGLU before it, without the core of attention. Weights, also converted or
    transposed ones, do not count; a piece of memory counts once.
    """
    model.set_precision(precision)
    shapes = {tuple(weight.shape) for weight in model.parameters()}
    shapes |= {shape[:-2] + shape[:-3:-1] for shape in shapes}
    shapes |= {shape[1:] for shape in shapes if len(shape) == 3}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tuple(tensor.shape) not in shapes:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage
        return tensor

    blocks = {isinstance(block.ffn, MoE): block for block in model.blocks}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = [y for block in blocks.values() for y in _linear_outputs(block, n_tokens)]
    assert all(output.requires_grad for output in outputs)
    return sum(storage.nbytes() for storage in kept.values())


def _linear_outputs(block: Block, n_tokens: int) -> list[Tensor]:
    attention, weight = block.attention, block.attention.out.weight

    def states(width: int) -> Tensor:
        x = torch.randn(1, n_tokens, width, device=weight.device, dtype=torch.bfloat16)
        return x.requires_grad_()

    x_BTD = states(attention.q_down.in_features)
    latent_BTQ, down_BTL = side_by_side(
        (attention.q_down, attention.kv_down), x_BTD, attention.down_codes, block.attention_norm
    )
    outputs = [
        attention.q_up.after_norm(attention.q_norm, latent_BTQ),
        attention.kv_up.after_norm(attention.kv_norm, down_BTL[..., : attention.kv_lora_rank]),
        attention.out(states(attention.out.in_features)),
    ]
    x_BTD = states(attention.q_down.in_features)
    if isinstance(block.ffn, MoE):
        valid_BT = torch.ones(1, n_tokens, dtype=torch.bool, device=weight.device)
        return [*outputs, block.ffn(block.ffn_norm(x_BTD), valid_BT)[0]]
    return [*outputs, block.ffn(x_BTD, block.ffn_norm)]
