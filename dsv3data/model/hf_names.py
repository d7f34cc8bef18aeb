"""Our parameter names and those of the released DeepSeek-V3 weights, both ways.

The released files hold one matrix per expert and projection, and the MTP module as layer number
`n_layers` with its own copies of embedding and head. Order inside its projection (`eh_proj`) is
[embedding; hidden]: a model of the other order is exported with its halves exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dsv3data.contracts.errors import BadInput
from dsv3data.model.config import ModelConfig

_ENDS = {
    "embedding.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_BLOCK = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.q_down.weight": "self_attn.q_a_proj.weight",
    "attention.q_norm.weight": "self_attn.q_a_layernorm.weight",
    "attention.q_up.weight": "self_attn.q_b_proj.weight",
    "attention.kv_down.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "attention.kv_norm.weight": "self_attn.kv_a_layernorm.weight",
    "attention.kv_up.weight": "self_attn.kv_b_proj.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
_DENSE = {f"ffn.{name}.weight": f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
_MOE = {
    "ffn.router.weight_ED": "mlp.gate.weight",
    "ffn.router.bias_E": "mlp.gate.e_score_correction_bias",
    **{
        f"ffn.shared.{name}.weight": f"mlp.shared_experts.{name}_proj.weight"
        for name in ("gate", "up", "down")
    },
}
_MTP = {
    "mtp.hidden_norm.weight": "hnorm.weight",
    "mtp.embedding_norm.weight": "enorm.weight",
    "mtp.projection.weight": "eh_proj.weight",
    "mtp.final_norm.weight": "shared_head.norm.weight",
}
_MTP_COPIES = {"embedding.weight": "embed_tokens.weight", "head.weight": "shared_head.head.weight"}


def export_state(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our state dict (or gradients under the same names) in the names of the released weights."""
    exported = {theirs: state[ours] for ours, theirs in _plain_pairs(config)}
    for ours, theirs in _expert_layers(config):
        _export_experts(exported, state, ours, theirs, config)
    if config.mtp_depth:
        layer = f"model.layers.{config.n_layers}."
        exported.update({layer + theirs: state[ours] for ours, theirs in _MTP_COPIES.items()})
        exported[f"{layer}eh_proj.weight"] = _embedding_first(
            state["mtp.projection.weight"], config
        )
    return exported


def import_state(theirs: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The reverse of `export_state`, ready for `load_state_dict`.

    Raises:
        BadInput: a tensor is missing, or there is one that this config has no place for.
    """
    expected = set(released_names(config))
    _check_names(expected, set(theirs))
    state = {ours: theirs[name] for ours, name in _plain_pairs(config)}
    for ours, name in _expert_layers(config):
        _import_experts(state, theirs, ours, name, config)
    if config.mtp_depth:
        state["mtp.projection.weight"] = _embedding_first(state["mtp.projection.weight"], config)
    return state


def released_names(config: ModelConfig) -> Iterator[str]:
    """Every tensor name of a released checkpoint of this shape."""
    yield from (theirs for _, theirs in _plain_pairs(config))
    for _, layer in _expert_layers(config):
        for expert in range(config.n_routed_experts):
            yield from (_expert_name(layer, expert, name) for name in ("gate", "up", "down"))
    if config.mtp_depth:
        yield from (f"model.layers.{config.n_layers}.{name}" for name in _MTP_COPIES.values())


def _plain_pairs(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(ours, theirs) of every tensor that is the same on both sides."""
    yield from _ENDS.items()
    for layer in range(config.n_layers):
        ffn = _DENSE if layer < config.n_dense_layers else _MOE
        for ours, theirs in (_BLOCK | ffn).items():
            yield f"blocks.{layer}.{ours}", f"model.layers.{layer}.{theirs}"
    if config.mtp_depth:
        layer_name = f"model.layers.{config.n_layers}."
        for ours, theirs in _MTP.items():
            yield ours, layer_name + theirs
        for ours, theirs in (_BLOCK | _MOE).items():
            yield f"mtp.block.{ours}", layer_name + theirs


def _expert_layers(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(our prefix, their prefix) of every layer with routed experts."""
    for layer in range(config.n_dense_layers, config.n_layers):
        yield f"blocks.{layer}.ffn.routed.", f"model.layers.{layer}.mlp.experts."
    if config.mtp_depth:
        yield "mtp.block.ffn.routed.", f"model.layers.{config.n_layers}.mlp.experts."


def _expert_name(layer: str, expert: int, projection: str) -> str:
    return f"{layer}{expert}.{projection}_proj.weight"


def _export_experts(
    exported: dict[str, Tensor],
    state: Mapping[str, Tensor],
    ours: str,
    theirs: str,
    config: ModelConfig,
) -> None:
    for expert in range(config.n_routed_experts):
        gate, up = state[f"{ours}gate_up_EFD"][expert].chunk(2, dim=0)
        exported[_expert_name(theirs, expert, "gate")] = gate
        exported[_expert_name(theirs, expert, "up")] = up
        exported[_expert_name(theirs, expert, "down")] = state[f"{ours}down_EDF"][expert]


def _import_experts(
    state: dict[str, Tensor],
    tensors: Mapping[str, Tensor],
    ours: str,
    theirs: str,
    config: ModelConfig,
) -> None:
    def stack(projection: str) -> Tensor:
        names = (_expert_name(theirs, e, projection) for e in range(config.n_routed_experts))
        return torch.stack([tensors[name] for name in names])

    state[f"{ours}gate_up_EFD"] = torch.cat((stack("gate"), stack("up")), dim=1)
    state[f"{ours}down_EDF"] = stack("down")


def _embedding_first(projection: Tensor, config: ModelConfig) -> Tensor:
    """Exchange the halves of the MTP projection where our order is not the released one."""
    if config.mtp_input_order == "embedding_hidden":
        return projection
    hidden_half, embedding_half = projection.chunk(2, dim=1)
    return torch.cat((embedding_half, hidden_half), dim=1)


def _check_names(expected: set[str], found: set[str]) -> None:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing or unknown:
        raise BadInput(
            f"the weights do not fit the model: {len(missing)} tensors missing, "
            f"{len(unknown)} without a place",
            where=", ".join((missing + unknown)[:3]),
            effect="no weights were loaded",
            fix="give the model config that belongs to these weights (layers, experts, mtp_depth)",
        )
