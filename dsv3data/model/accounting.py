"""Parameters and FLOP of a model, counted the way the published figures are.

DeepSeek-V3: 671,026,419,200 parameters without the MTP module, router biases included; 250.4 GFLOP
a token with causal attention, 281.2 without, 260.6 with the MTP module [ISCA, arXiv 2505.09343].
"""

from __future__ import annotations

from dataclasses import dataclass

from dsv3data.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Numbers of stored parameters (weights, norms, router biases)."""

    main: int  # without the MTP module
    active: int  # of `main`, used by one token; embedding and head included
    mtp: int  # unique to the MTP module: its embedding and head are the main model's

    @property
    def total(self) -> int:
        return self.main + self.mtp


def count_parameters(config: ModelConfig) -> ModelSize:
    """Parameter counts from the sizes alone; a test holds them to the built model."""
    ends = 2 * config.vocab_size * config.d_model + config.d_model
    dense = config.n_dense_layers * _dense_block(config)
    experts = config.n_routed_experts
    return ModelSize(
        main=ends + dense + config.n_moe_layers * _moe_block(config, experts),
        active=ends + dense + config.n_moe_layers * _moe_block(config, config.top_k),
        mtp=config.mtp_depth * (_mtp_extra(config) + _moe_block(config, experts)),
    )


def flop_per_token(
    config: ModelConfig, *, context: int, causal: bool = True, mtp: bool = False
) -> float:
    """Forward and backward FLOP of one training token.

    Six per active parameter that a token multiplies (the embedding is a look-up), and three times
    the attention core's forward, halved when the mask is causal. The published figures are for
    context 4096.
    """
    embedding = config.vocab_size * config.d_model
    multiplied = count_parameters(config).active - embedding
    layers = config.n_layers
    if mtp and config.mtp_depth:
        multiplied += _mtp_extra(config) + _moe_block(config, config.top_k) + embedding
        layers += 1
    widths = config.d_qk_nope + config.d_qk_rope + config.d_v
    attention = 3 * 2 * layers * config.n_heads * widths * context
    return 6 * multiplied + (attention / 2 if causal else attention)


def training_bytes(config: ModelConfig, moment_bytes: int = 4) -> int:
    """fp32 weights and gradients, two Adam moments: what this loop holds beside activations."""
    return (4 + 4 + 2 * moment_bytes) * count_parameters(config).total


def _attention(config: ModelConfig) -> int:
    d_qk = config.d_qk_nope + config.d_qk_rope
    query = config.q_lora_rank * (config.d_model + 1 + config.n_heads * d_qk)
    key_value = config.d_model * (config.kv_lora_rank + config.d_qk_rope)
    key_value += config.kv_lora_rank * (1 + config.n_heads * (config.d_qk_nope + config.d_v))
    return query + key_value + config.n_heads * config.d_v * config.d_model


def _dense_block(config: ModelConfig) -> int:
    return _attention(config) + config.d_model * (2 + 3 * config.d_ff_dense)


def _moe_block(config: ModelConfig, experts_counted: int) -> int:
    expert = 3 * config.d_model * config.d_expert
    router = config.n_routed_experts * (config.d_model + 1)
    experts = (experts_counted + config.n_shared_experts) * expert
    return _attention(config) + 2 * config.d_model + router + experts


def _mtp_extra(config: ModelConfig) -> int:
    return config.d_model * (2 * config.d_model + 3)
