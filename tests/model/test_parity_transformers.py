"""Logits and gradients equal those of `transformers`' DeepSeek-V3 on the exported weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dsv3data.model.config import YarnConfig
from dsv3data.model.hf_config import hf_config
from dsv3data.model.hf_names import export_state
from dsv3data.model.transformer import Transformer
from tiny_models import random_model, small_config

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5

YARN = YarnConfig(factor=4.0, original_context=16, beta=8.0)


def their_model(model: Transformer, folder: Path) -> Any:
    """Write a released-style checkpoint and let `transformers` read it."""
    config = model.config
    settings = hf_config(config) | {"num_nextn_predict_layers": 0}
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


def test_mtp_block_equals_the_one_of_transformers(tmp_path: Path) -> None:
    """`transformers` joins [embedding; hidden] and feeds the state after the final norm."""
    layers = pytest.importorskip("transformers.modeling_layers")
    if not hasattr(layers, "MtpLayer"):
        pytest.skip("this transformers has no MTP layer")
    modeling = pytest.importorskip("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = small_config(mtp_depth=1)
    ours = random_model(config)
    theirs = their_model(random_model(small_config()), tmp_path)
    layer = layers.MtpLayer(
        theirs.config,
        modeling.DeepseekV3DecoderLayer,
        modeling.DeepseekV3RMSNorm,
        config.n_layers - 1,
    )
    layer.load_state_dict(stacked_mtp_state(ours))
    ids = torch.randint(0, config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(6))
    output = ours(ids)
    positions = torch.arange(11)[None]
    expected = layer(
        inputs_embeds=ours.embedding(ids)[:, 1:],
        previous_hidden_state=output.hidden_BTD[:, :-1],
        position_embeddings=theirs.model.rotary_emb(output.hidden_BTD, positions),
        attention_mask=torch.full((11, 11), float("-inf")).triu(1)[None, None],
        position_ids=positions,
        past_key_values=None,
    )
    torch.testing.assert_close(output.mtp_hidden_BTD, expected, rtol=TOLERANCE, atol=TOLERANCE)


def stacked_mtp_state(model: Transformer) -> dict[str, torch.Tensor]:
    """Our MTP module in the names of `MtpLayer`, experts stacked as it holds them."""
    prefix = f"model.layers.{model.config.n_layers}."
    state, experts = {}, {}
    for name, tensor in export_state(model.state_dict(), model.config).items():
        if not name.startswith(prefix) or name.endswith(("embed_tokens.weight", "head.weight")):
            continue
        name = name.removeprefix(prefix).replace("shared_head.norm", "post_norm")
        if name.startswith("mlp.experts."):
            experts[name] = tensor
        elif name.startswith(("enorm", "hnorm", "eh_proj", "post_norm")):
            state[name] = tensor
        else:
            state[f"mtp_block.{name}"] = tensor
    numbers = range(model.config.n_routed_experts)

    def stack(projection: str) -> torch.Tensor:
        return torch.stack([experts[f"mlp.experts.{n}.{projection}_proj.weight"] for n in numbers])

    state["mtp_block.mlp.experts.gate_up_proj"] = torch.cat((stack("gate"), stack("up")), dim=1)
    state["mtp_block.mlp.experts.down_proj"] = stack("down")
    return state
