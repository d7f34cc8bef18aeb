"""Initial weights: N(0, init_std) everywhere, norms at 1, router biases at 0 [§4.2]."""

from __future__ import annotations

import torch

from dsv3data.contracts.keys import stream_constant
from dsv3data.model.norm import RMSNorm
from dsv3data.model.router import Router
from dsv3data.model.transformer import Transformer


@torch.no_grad()
def init_weights(model: Transformer, seed: int) -> None:
    """Fill the model in place.

    Each parameter has its own stream, a pure function of (seed, parameter name), so adding a layer
    or drawing on several hosts changes no other weight. Drawn on the CPU wherever the model is: the
    same weights for every device.
    """
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(stream_constant(seed, f"init {name}") >> 1)
        drawn = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
        parameter.copy_(drawn.normal_(0.0, model.config.init_std, generator=generator))
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(1.0)
        if isinstance(module, Router):
            module.bias_E.zero_()
