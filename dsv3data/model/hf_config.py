"""A model's sizes and the config.json of `transformers`' DeepseekV3ForCausalLM, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsv3data.contracts.errors import BadInput
from dsv3data.model.config import ModelConfig, YarnConfig

# Our field and theirs, where both say the same.
_SAME = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "d_ff_dense": "intermediate_size",
    "d_expert": "moe_intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_shared_experts": "n_shared_experts",
    "n_routed_experts": "n_routed_experts",
    "routed_scale": "routed_scaling_factor",
    "kv_lora_rank": "kv_lora_rank",
    "q_lora_rank": "q_lora_rank",
    "d_qk_rope": "qk_rope_head_dim",
    "d_qk_nope": "qk_nope_head_dim",
    "d_v": "v_head_dim",
    "n_groups": "n_group",
    "top_k_groups": "topk_group",
    "top_k": "num_experts_per_tok",
    "n_dense_layers": "first_k_dense_replace",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "mtp_depth": "num_nextn_predict_layers",
}
# What another value of would be another architecture; a file may leave them out.
_FIXED: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_act": "silu",
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "attention_bias": False,
    "tie_word_embeddings": False,
}


def hf_config(config: ModelConfig) -> dict[str, Any]:
    """What `transformers` needs to read weights in the names of `hf_names`."""
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        **{theirs: getattr(config, ours) for ours, theirs in _SAME.items()},
        "num_key_value_heads": config.n_heads,
        "rope_parameters": _rope(config),
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,  # no pad id, which would stop the gradient of its embedding
    }


def model_config(settings: Mapping[str, Any], *, where: str) -> ModelConfig:
    """The reverse of `hf_config`, for published files too.

    Raises:
        BadInput: a size is missing, or the file is of another architecture.
        BadConfig: sizes that make no model.
    """
    for name, expected in _FIXED.items():
        if settings.get(name, expected) != expected:
            raise _bad(f"{name} is {settings[name]!r}, not {expected!r}", where)
    missing = [theirs for theirs in _SAME.values() if theirs not in settings]
    if missing:
        raise _bad(f"{', '.join(missing)} is missing", where)
    sizes = {ours: settings[theirs] for ours, theirs in _SAME.items()}
    return ModelConfig(**(sizes | _rope_fields(settings)))


def _rope_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters` of `transformers` 5, or `rope_scaling` and `rope_theta` of before."""
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    fields: dict[str, Any] = {}
    theta = rope.get("rope_theta", settings.get("rope_theta"))
    if theta is not None:
        fields["rope_theta"] = float(theta)
    if rope.get("rope_type", rope.get("type")) == "yarn":
        fields["yarn"] = YarnConfig(
            factor=float(rope["factor"]),
            original_context=rope["original_max_position_embeddings"],
            alpha=float(rope.get("beta_slow", 1)),
            beta=float(rope.get("beta_fast", 32)),
            mscale=float(rope.get("mscale_all_dim", 1)),
        )
    return fields


def _bad(what: str, where: str) -> BadInput:
    return BadInput(
        f"this config.json is not of a DeepSeek-V3 that is built here: {what}",
        where=where,
        effect="no weights were loaded",
        fix="give a folder of DeepseekV3ForCausalLM, or one that dsv3data exported",
    )


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
