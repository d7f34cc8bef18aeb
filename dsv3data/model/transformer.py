"""The whole model: embedding, blocks, final norm, untied head, and the MTP module [§2].

Legend: B rows, T tokens of a row, D model width, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv3data.model.attention import mask_for, places_in_documents
from dsv3data.model.block import Block
from dsv3data.model.config import AttentionBackend, ModelConfig, Precision, Remade
from dsv3data.model.linear import Linear
from dsv3data.model.mla import MLA
from dsv3data.model.mlp import SwiGLU
from dsv3data.model.moe import MoE, RoutedExperts
from dsv3data.model.mtp import MTPModule
from dsv3data.model.norm import RMSNorm
from dsv3data.model.recompute import forgetting_regions
from dsv3data.model.rope import rope_tables
from dsv3data.model.router import Router, Routing


@dataclass(frozen=True, kw_only=True)
class Output:
    """States ready for the head; logits are left to the caller, who may need few of them."""

    hidden_BTD: Tensor  # position i predicts token i+1
    mtp_hidden_BTD: Tensor | None  # T-1 positions; position i predicts token i+2
    routings: tuple[Routing, ...]  # one per MoE layer in order, the MTP block's last


class Transformer(nn.Module):
    """A DeepSeek-V3-shaped language model. Build on `torch.device("meta")` to only count it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Not drawn here: `init_weights` does, and on the meta device drawing imports the compiler.
        empty_VD = torch.empty(config.vocab_size, config.d_model)
        self.embedding = nn.Embedding.from_pretrained(empty_VD, freeze=False)  # type: ignore[no-untyped-call]
        self.blocks = nn.ModuleList(
            Block(config, dense=layer < config.n_dense_layers) for layer in range(config.n_layers)
        )
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.mtp = MTPModule(config) if config.mtp_depth else None
        self.precision: Precision = "fp32"
        self.attention: AttentionBackend = "sdpa"
        self.recompute: tuple[Remade, ...] = ()

    def forward(
        self, ids_BT: Tensor, valid_BT: Tensor | None = None, documents_BT: Tensor | None = None
    ) -> Output:
        """States of every position.

        Args:
            ids_BT: int64 [B, T].
            valid_BT: bool, marks tokens that are not padding; default all.
            documents_BT: the number of each token's document in its row, if no token shall see
                another document and positions shall begin at 0 with each.
        """
        if valid_BT is None:
            valid_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        with forgetting_regions() if self.recompute else nullcontext():
            return self._read(ids_BT, valid_BT, documents_BT)

    def _read(self, ids_BT: Tensor, valid_BT: Tensor, documents_BT: Tensor | None) -> Output:
        n_tokens = ids_BT.shape[1]
        rope = rope_tables(self.config, n_tokens, ids_BT.device)
        if documents_BT is not None:
            places_BT = places_in_documents(documents_BT)
            rope = rope[0][places_BT], rope[1][places_BT]
        mask = mask_for(self.attention, documents_BT, n_tokens, ids_BT.device)
        embedded_BTD = self.embedding(ids_BT).to(self.stream_dtype)
        x_BTD, routings = embedded_BTD, []
        for block in self.blocks:
            x_BTD, routing = block(x_BTD, rope, valid_BT, mask)
            if routing is not None:
                routings.append(routing)
        hidden_BTD = self.final_norm(x_BTD)
        mtp_hidden_BTD = None
        if self.mtp is not None and n_tokens > 1:
            after_norm = self.config.mtp_hidden == "after_final_norm"
            pairs_BT = valid_BT[:, 1:]  # a pair exists where its second token does
            earlier_BT = None
            if documents_BT is not None:
                earlier_BT = documents_BT[:, :-1]
                pairs_BT = pairs_BT & (documents_BT[:, 1:] == earlier_BT)
            mtp_hidden_BTD, routing = self.mtp(
                (hidden_BTD if after_norm else x_BTD)[:, :-1],
                embedded_BTD[:, 1:],
                (rope[0][..., :-1, :], rope[1][..., :-1, :]),
                pairs_BT,
                mask_for(self.attention, earlier_BT, n_tokens - 1, ids_BT.device),
            )
            routings.append(routing)
        return Output(
            hidden_BTD=hidden_BTD, mtp_hidden_BTD=mtp_hidden_BTD, routings=tuple(routings)
        )

    def set_attention(self, backend: AttentionBackend) -> None:
        """How the core of attention is computed from now on."""
        self.attention = backend
        for module in self.modules():
            if isinstance(module, MLA):
                module.backend = backend

    def set_recompute(self, names: Collection[Remade]) -> None:
        """What is made again in the backward pass from now on, instead of kept."""
        self.recompute = tuple(names)
        kinds = {"rms_norm": RMSNorm, "mla_up": MLA, "swiglu": SwiGLU | RoutedExperts}
        for module in self.modules():
            for name, kind in kinds.items():
                if isinstance(module, kind):
                    module.recompute = name in names

    def set_precision(self, precision: Precision) -> None:
        """What linear layers and experts multiply in from now on; no weight changes."""
        self.precision = precision
        for module in self.modules():
            if isinstance(module, Linear | RoutedExperts):
                module.precision = precision

    @property
    def stream_dtype(self) -> torch.dtype:
        """Of the activations between layers: fp32 on a CPU, which emulates FP8 and not BF16."""
        emulated = self.precision == "fp8" and self.embedding.weight.device.type == "cpu"
        return torch.float32 if self.precision == "fp32" or emulated else torch.bfloat16

    def logits(self, hidden_D: Tensor) -> Tensor:
        """The shared output head on any states [..., D] → [..., V]."""
        return F.linear(hidden_D, self.head.weight.to(hidden_D.dtype))

    def routers(self) -> list[Router]:
        """The routers in the order of `Output.routings`."""
        return [module.router for module in self.modules() if isinstance(module, MoE)]
