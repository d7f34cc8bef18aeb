"""The sizes and options of one model; the defaults are DeepSeek-V3's [§4.2]. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dsv3data.contracts.errors import BadConfig

# What linear layers and experts multiply in; weights, moments and gradients are fp32 in all.
Precision = Literal["fp32", "bf16", "fp8"]
# How the attention core is computed; see `attention.attend`.
AttentionBackend = Literal["sdpa", "math", "flex"]
# What can be made again in the backward pass instead of kept; see `recompute`.
Remade = Literal["rms_norm", "mla_up", "swiglu"]


@dataclass(frozen=True, kw_only=True)
class YarnConfig:
    """Stretching of rotary frequencies for contexts beyond the pre-training one [§4.3].

    `factor` 1 is off, and stays off for every context up to `original_context`: the softmax factor
    that belongs to YaRN must not touch a model that reads at its original length.
    """

    factor: float = 1.0
    original_context: int = 4096
    alpha: float = 1.0  # rotations below which a frequency is fully interpolated ("beta_slow")
    beta: float = 32.0  # rotations above which a frequency is left alone ("beta_fast")
    mscale: float = 1.0

    def __post_init__(self) -> None:
        _require(self.factor >= 1, "yarn.factor", self.factor, "at least 1 (1 is off)")
        _require(self.original_context >= 1, "yarn.original_context", self.original_context, ">= 1")
        _require(0 < self.alpha < self.beta, "yarn.alpha", self.alpha, "in (0, yarn.beta)")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of a DeepSeek-V3-shaped model.

    `vocab_size` and `context` may be 0 in a file: training then takes them from the packed data.
    """

    vocab_size: int = 129_280
    context: int = 4096

    n_layers: int = 61
    n_dense_layers: int = 3  # the first ones, with a plain SwiGLU instead of experts
    d_model: int = 7168
    d_ff_dense: int = 18_432

    n_heads: int = 128
    q_lora_rank: int = 1536
    kv_lora_rank: int = 512
    d_qk_nope: int = 128
    d_qk_rope: int = 64
    d_v: int = 128
    rope_theta: float = 10_000.0
    yarn: YarnConfig = field(default_factory=YarnConfig)

    n_routed_experts: int = 256
    n_shared_experts: int = 1
    d_expert: int = 2048
    top_k: int = 8
    n_groups: int = 8
    top_k_groups: int = 4
    routed_scale: float = 2.5

    mtp_depth: int = 1
    # Eq. 21 writes [hidden; embedding]; the released weights multiply [embedding; hidden].
    mtp_input_order: Literal["embedding_hidden", "hidden_embedding"] = "embedding_hidden"
    # Not published which; the serving systems feed the hidden state after the final norm.
    mtp_hidden: Literal["after_final_norm", "before_final_norm"] = "after_final_norm"

    norm_eps: float = 1e-6
    init_std: float = 0.006

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_attention()
        self._check_routing()

    @property
    def uses_yarn(self) -> bool:
        """YaRN acts only when it is on and the context exceeds the original one."""
        return self.yarn.factor > 1 and self.context > self.yarn.original_context

    @property
    def n_moe_layers(self) -> int:
        """Layers with experts in the main model, without the MTP block."""
        return self.n_layers - self.n_dense_layers

    def _check_sizes(self) -> None:
        for name in ("n_layers", "d_model", "d_ff_dense", "n_shared_experts", "d_expert"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("vocab_size", "context"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 (from data) or more")
        dense = self.n_dense_layers
        _require(0 <= dense <= self.n_layers, "n_dense_layers", dense, "between 0 and n_layers")
        _require(self.mtp_depth in (0, 1), "mtp_depth", self.mtp_depth, "0 or 1")
        _require(self.init_std > 0, "init_std", self.init_std, "above 0")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "above 0")

    def _check_attention(self) -> None:
        for name in ("n_heads", "q_lora_rank", "kv_lora_rank", "d_qk_nope", "d_v"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        rope = self.d_qk_rope
        _require(rope >= 2 and rope % 2 == 0, "d_qk_rope", rope, "an even number, at least 2")
        _require(self.rope_theta > 1, "rope_theta", self.rope_theta, "above 1")
        _require(
            self.yarn.factor == 1 or self.context == 0 or self.uses_yarn,
            "yarn.factor",
            self.yarn.factor,
            f"1 while context ({self.context}) is within yarn.original_context "
            f"({self.yarn.original_context})",
        )

    def _check_routing(self) -> None:
        experts, groups = self.n_routed_experts, self.n_groups
        _require(groups >= 1, "n_groups", groups, "at least 1")
        _require(experts % groups == 0, "n_routed_experts", experts, f"a multiple of {groups}")
        # A group is scored by its two best experts [§2.1.2], so it needs two.
        _require(experts // groups >= 2, "n_groups", groups, "small enough for 2 experts a group")
        kept = self.top_k_groups
        _require(1 <= kept <= groups, "top_k_groups", kept, "between 1 and n_groups")
        reachable = kept * experts // groups
        _require(1 <= self.top_k <= reachable, "top_k", self.top_k, f"between 1 and {reachable}")
        _require(self.routed_scale > 0, "routed_scale", self.routed_scale, "above 0")


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise BadConfig(
            f"model.{name} must be {expected}, not {value}",
            where=f"model.{name}",
            effect="no model was built",
            fix=f"change model.{name} in the config file or with --set model.{name}=…",
        )
