"""Logits and gradients equal those of `transformers`' DeepSeek-V3 on the exported weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dsv3data.model.config import ModelConfig, YarnConfig
from dsv3data.model.hf_names import export_state
from dsv3data.model.init import init_weights
from dsv3data.model.router import Router
from dsv3data.model.transformer import Transformer

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5

YARN = YarnConfig(factor=4.0, original_context=16, beta=8.0)


def small_config(**changes: Any) -> ModelConfig:
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


def their_model(model: Transformer, folder: Path) -> Any:
    """Write a released-style checkpoint and let `transformers` read it."""
    config = model.config
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.uses_yarn:
        rope |= {
            "rope_type": "yarn",
            "factor": config.yarn.factor,
            "original_max_position_embeddings": config.yarn.original_context,
            "beta_fast": config.yarn.beta,
            "beta_slow": config.yarn.alpha,
            "mscale": config.yarn.mscale,
            "mscale_all_dim": config.yarn.mscale,
        }
    settings = {
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
        "rope_parameters": rope,
        "num_nextn_predict_layers": 0,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = export_state(model.state_dict(), config)
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return transformers.DeepseekV3ForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )


def their_gradients(theirs: Any) -> dict[str, torch.Tensor]:
    """Gradients in released names: `transformers` stacks the experts in memory."""
    gradients = {}
    for name, parameter in theirs.named_parameters():
        grad = parameter.grad
        if name.endswith("experts.gate_up_proj"):
            for expert, both in enumerate(grad):
                gate, up = both.chunk(2, dim=0)
                stem = name.removesuffix("gate_up_proj")
                gradients[f"{stem}{expert}.gate_proj.weight"] = gate
                gradients[f"{stem}{expert}.up_proj.weight"] = up
        elif name.endswith("experts.down_proj"):
            for expert, down in enumerate(grad):
                stem = name.removesuffix("down_proj")
                gradients[f"{stem}{expert}.down_proj.weight"] = down
        else:
            gradients[name] = grad
    return gradients


@pytest.mark.parametrize("yarn", [YarnConfig(), YARN], ids=["plain", "yarn"])
def test_logits_and_gradients_equal_transformers(yarn: YarnConfig, tmp_path: Path) -> None:
    config = small_config(yarn=yarn)
    assert config.uses_yarn == (yarn is YARN)
    ours = random_model(config)
    theirs = their_model(ours, tmp_path)
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, config.vocab_size, (2, config.context), generator=generator)
    pull = torch.randn(2, config.context, config.vocab_size, generator=generator)

    our_logits = ours.logits(ours(ids).hidden_BTD)
    their_logits = theirs(input_ids=ids).logits
    torch.testing.assert_close(our_logits, their_logits, rtol=TOLERANCE, atol=TOLERANCE)

    (our_logits * pull).mean().backward()
    (their_logits * pull).mean().backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, buffer in ours.named_buffers():
        gradients[name] = torch.zeros_like(buffer)  # the bias has no gradient on either side
    expected = their_gradients(theirs)
    compared = 0
    for name, gradient in export_state(gradients, config).items():
        if name.endswith("e_score_correction_bias"):
            continue
        scale = expected[name].abs().max().item()
        assert scale > 0 or "experts." in name, f"{name} has no gradient: nothing is compared"
        torch.testing.assert_close(
            gradient, expected[name], rtol=TOLERANCE, atol=TOLERANCE * max(scale, 1e-6), msg=name
        )
        compared += 1
    assert compared == len(expected)


def test_yarn_changes_the_logits() -> None:
    """Otherwise the parity under YaRN would prove nothing."""
    plain, stretched = random_model(small_config()), random_model(small_config(yarn=YARN))
    ids = torch.arange(48)[None]
    difference = plain(ids).hidden_BTD - stretched(ids).hidden_BTD
    assert difference.abs().max() > 1e-2
