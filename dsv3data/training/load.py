"""Where the tokens of a batch went: expert load by domain [Fig. 9], and nodes per token [§2.1.2].

Legend: B rows, T tokens of a row, S positions that a router saw (T, or T - 1 of the MTP block),
K experts a token, E routed experts, G domains, N groups of experts: each is a node when experts are
spread over machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dsv3data.model.config import ModelConfig
from dsv3data.model.router import Routing


class LayerLoad:
    """Counts of one router over a step's micro-batches, on the device; the host waits for none.

    Attributes:
        by_layer_E: valid tokens sent to each expert, int64: the router's own count.
        by_domain_GE: the same by domain, int64.
        tokens, visits: valid tokens, and groups that they visited, each once a token; int64 [].
    """

    def __init__(self, config: ModelConfig, n_domains: int, device: torch.device) -> None:
        experts = config.n_routed_experts
        self._group_size, self._n_groups = experts // config.n_groups, config.n_groups
        self.by_layer_E = torch.zeros(experts, dtype=torch.int64, device=device)
        self.by_domain_GE = torch.zeros(n_domains, experts, dtype=torch.int64, device=device)
        self.tokens = torch.zeros((), dtype=torch.int64, device=device)
        self.visits = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, routing: Routing, domains_B: Tensor) -> None:
        """Count a micro-batch; `load_reference` is the slow twin."""
        valid_BS, experts = routing.valid_BS, len(self.by_layer_E)
        experts_BSK = routing.experts_TK.view(*valid_BS.shape, -1)
        cells_BSK = domains_B[:, None, None] * experts + experts_BSK
        counts_BSK = valid_BS.to(torch.int64)[..., None].expand_as(cells_BSK)
        self.by_layer_E += routing.load_E
        self.by_domain_GE.view(-1).scatter_add_(0, cells_BSK.flatten(), counts_BSK.flatten())
        visited_BSN = torch.zeros(
            *valid_BS.shape, self._n_groups, dtype=torch.bool, device=valid_BS.device
        ).scatter_(-1, experts_BSK // self._group_size, True)
        self.tokens += valid_BS.sum()
        self.visits += (visited_BSN & valid_BS[..., None]).sum()


def nodes_per_token(loads: Sequence[LayerLoad]) -> float:
    """Mean over all layers' tokens; NaN without any. The host waits once."""
    if not loads:
        return math.nan
    counts = torch.stack([torch.stack((load.tokens, load.visits)) for load in loads])
    tokens, visits = counts.sum(dim=0).tolist()
    return visits / tokens if tokens else math.nan


def relative(load_E: Tensor) -> list[float]:
    """Load over the mean load, three digits: 1 is even; all 0 without a token."""
    mean = float(load_E.double().mean())
    return [round(count / mean, 3) if mean else 0.0 for count in load_E.tolist()]


def load_reference(
    n_domains: int, config: ModelConfig, experts_BSK: Tensor, valid_BS: Tensor, domains_B: Tensor
) -> tuple[list[list[int]], int]:
    """Load by domain and visits of groups, one token after the other."""
    load = [[0] * config.n_routed_experts for _ in range(n_domains)]
    size, visits = config.n_routed_experts // config.n_groups, 0
    for domain, row, valid in zip(
        domains_B.tolist(), experts_BSK.tolist(), valid_BS.tolist(), strict=True
    ):
        for experts_K, counts in zip(row, valid, strict=True):
            if counts:
                visits += len({expert // size for expert in experts_K})
                for expert in experts_K:
                    load[domain][expert] += 1
    return load, visits
