"""Which experts a token visits, and how their load is kept even [§2.1.2].

Legend: B rows, S tokens of a row, T = B·S tokens, D model width, E routed experts, G groups,
K experts chosen a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsv3data.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Routing:
    """What one router decided for a batch."""

    valid_BS: Tensor  # bool: positions that count; the others are routed, but learn nothing
    experts_TK: Tensor  # int64, chosen experts
    weights_TK: Tensor  # fp32, with gradient
    load_E: Tensor  # int64, valid tokens sent to each expert; sums to valid tokens · K
    balance_loss: Tensor  # fp32 scalar, Eq. 17 without its factor alpha


class Router(nn.Module):
    """Sigmoid affinities, a choice limited to few groups, and a bias that evens out the load."""

    bias_E: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k, self.top_k_groups = config.top_k, config.top_k_groups
        self.n_groups, self.routed_scale = config.n_groups, config.routed_scale
        self.weight_ED = nn.Parameter(torch.empty(config.n_routed_experts, config.d_model))
        # Moved by `update_bias`, never by a gradient; saved with the weights.
        self.register_buffer("bias_E", torch.zeros(config.n_routed_experts, dtype=torch.float32))

    def forward(self, x_BSD: Tensor, valid_BS: Tensor) -> Routing:
        """Route every token; padding (`valid_BS` false) is routed too but counts nowhere.

        This must run once per token and step: call it outside any recomputation, or the load is
        counted twice.
        """
        scores_BSE = self.scores(x_BSD)
        scores_TE = scores_BSE.flatten(0, 1)
        experts_TK = choose_experts(
            scores_TE.detach() + self.bias_E, self.top_k, self.n_groups, self.top_k_groups
        )
        return Routing(
            valid_BS=valid_BS,
            experts_TK=experts_TK,
            weights_TK=gate_weights(scores_TE, experts_TK, self.routed_scale),
            load_E=expert_load(experts_TK, valid_BS.flatten(), scores_TE.shape[-1]),
            balance_loss=sequence_balance_loss(scores_BSE, valid_BS, self.top_k),
        )

    def scores(self, x_D: Tensor) -> Tensor:
        """Affinity of tokens to experts in (0, 1), always computed in fp32 [Eq. 15, §3.3]."""
        return torch.sigmoid(x_D.float() @ self.weight_ED.float().T)


def choose_experts(biased_TE: Tensor, top_k: int, n_groups: int, top_k_groups: int) -> Tensor:
    """The K best experts of the best groups by biased score [Eq. 16] → int64 [T, K].

    A group's score is the sum of its two best experts. Experts of dropped groups get -inf, not 0:
    with 0 they would win over negative biased scores.
    """
    grouped_TGe = torch.unflatten(biased_TE, -1, (n_groups, -1))
    group_scores_TG = grouped_TGe.topk(2, dim=-1).values.sum(dim=-1)
    kept_TG = torch.zeros_like(group_scores_TG, dtype=torch.bool).scatter_(
        -1, group_scores_TG.topk(top_k_groups, dim=-1).indices, True
    )
    allowed_TE = grouped_TGe.masked_fill(~kept_TG.unsqueeze(-1), float("-inf")).flatten(-2)
    return allowed_TE.topk(top_k, dim=-1).indices


def gate_weights(scores_TE: Tensor, experts_TK: Tensor, routed_scale: float) -> Tensor:
    """Scores without bias, normalised over the chosen experts, times `routed_scale` [Eq. 13-14]."""
    chosen_TK = scores_TE.gather(-1, experts_TK)
    return chosen_TK / chosen_TK.sum(dim=-1, keepdim=True) * routed_scale


def expert_load(experts_TK: Tensor, valid_T: Tensor, n_experts: int) -> Tensor:
    """Valid tokens per expert, int64 [E]; the host waits for no count."""
    counts_TK = valid_T.to(torch.int64).unsqueeze(-1).expand_as(experts_TK)
    load_E = torch.zeros(n_experts, dtype=torch.int64, device=experts_TK.device)
    return load_E.scatter_add_(0, experts_TK.flatten(), counts_TK.flatten())


def sequence_balance_loss(scores_BSE: Tensor, valid_BS: Tensor, top_k: int) -> Tensor:
    """Mean over rows of sum_i f_i · P_i [Eq. 17-20, without alpha]; 1 when a row is even.

    f counts, as Eq. 18 writes it, the top K of the bare scores: neither bias nor group limit, so
    it differs a little from the experts really visited. Only P carries a gradient.
    """
    n_experts = scores_BSE.shape[-1]
    valid_BS1 = valid_BS.unsqueeze(-1)
    lengths_B1 = valid_BS1.sum(dim=1).clamp(min=1)
    best_BSK = scores_BSE.topk(top_k, dim=-1).indices
    hits_BSE = torch.zeros_like(scores_BSE).scatter_(-1, best_BSK, 1.0) * valid_BS1
    fraction_BE = hits_BSE.sum(dim=1) * (n_experts / top_k) / lengths_B1
    share_BSE = scores_BSE / scores_BSE.sum(dim=-1, keepdim=True)
    mean_share_BE = (share_BSE * valid_BS1).sum(dim=1) / lengths_B1
    return (fraction_BE * mean_share_BE).sum(dim=-1).mean()


@torch.no_grad()
def update_bias(bias_E: Tensor, load_E: Tensor, gamma: float) -> None:
    """After a step: lower the bias of overloaded experts by gamma, raise the others' [§2.1.2].

    `load_E` is the whole batch's load. An expert exactly at the mean stays where it is.
    """
    load = load_E.double()
    bias_E -= gamma * torch.sign(load - load.mean()).to(bias_E.dtype)
