"""A model's sizes as the config.json of `transformers`' DeepseekV3ForCausalLM."""

from __future__ import annotations

from typing import Any

from dsv3data.model.config import ModelConfig


def hf_config(config: ModelConfig) -> dict[str, Any]:
    """What `transformers` needs to read weights in the names of `hf_names`."""
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff_dense,
        "moe_intermediate_size": config.d_expert,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "n_shared_experts": config.n_shared_experts,
        "n_routed_experts": config.n_routed_experts,
        "routed_scaling_factor": config.routed_scale,
        "kv_lora_rank": config.kv_lora_rank,
        "q_lora_rank": config.q_lora_rank,
        "qk_rope_head_dim": config.d_qk_rope,
        "qk_nope_head_dim": config.d_qk_nope,
        "v_head_dim": config.d_v,
        "n_group": config.n_groups,
        "topk_group": config.top_k_groups,
        "num_experts_per_tok": config.top_k,
        "first_k_dense_replace": config.n_dense_layers,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": _rope(config),
        "num_nextn_predict_layers": config.mtp_depth,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,  # no pad id, which would stop the gradient of its embedding
    }


def _rope(config: ModelConfig) -> dict[str, Any]:
    if not config.uses_yarn:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    return {
        "rope_type": "yarn",
        "rope_theta": config.rope_theta,
        "factor": config.yarn.factor,
        "original_max_position_embeddings": config.yarn.original_context,
        "beta_fast": config.yarn.beta,
        "beta_slow": config.yarn.alpha,
        "mscale": config.yarn.mscale,
        "mscale_all_dim": config.yarn.mscale,
    }
