"""Small models with every part of the architecture, for tests."""

from __future__ import annotations

from typing import Any

import torch

from dsv3data.model.config import ModelConfig
from dsv3data.model.init import init_weights
from dsv3data.model.router import Router
from dsv3data.model.transformer import Transformer


def small_config(**changes: Any) -> ModelConfig:
    """Odd, unequal sizes: a transposed or swapped axis cannot go unnoticed."""
    sizes: dict[str, Any] = {
        "vocab_size": 128,
        "context": 48,
        "n_layers": 3,
        "n_dense_layers": 1,
        "d_model": 48,
        "d_ff_dense": 64,
        "n_heads": 3,
        "q_lora_rank": 24,
        "kv_lora_rank": 20,
        "d_qk_nope": 12,
        "d_qk_rope": 8,
        "d_v": 10,
        "n_routed_experts": 16,
        "n_shared_experts": 2,
        "d_expert": 20,
        "top_k": 3,
        "n_groups": 4,
        "top_k_groups": 2,
        "mtp_depth": 0,
        "init_std": 0.1,
    }
    return ModelConfig(**(sizes | changes))


def random_model(config: ModelConfig) -> Transformer:
    """Random weights, norms off 1 and router biases off 0, so that nothing cancels."""
    model = Transformer(config)
    init_weights(model, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        for module in model.modules():
            if isinstance(module, Router):
                module.bias_E += 0.3 * torch.randn(module.bias_E.shape, generator=generator)
    return model
