"""What training minimises: next token + lambda · token after next + alpha · balance.

Where documents are apart no target lies in another document than the token that predicts it: a row
then teaches what its documents would teach alone.

Legend: B rows, T tokens of a row, D model width, N positions with a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsv3data.model.transformer import Output, Transformer
from dsv3data.training.cross_entropy import head_cross_entropy


@dataclass(frozen=True, kw_only=True)
class TargetCounts:
    """Denominators over the whole batch, so that micro-batches of any size weigh right."""

    rows: int
    main: int  # positions with a next token
    mtp: int  # positions with a token after next

    @classmethod
    def of(cls, texts: Sequence[NDArray[np.int32]]) -> TargetCounts:
        """`texts` are the lengths of what is read as one in each row: the row, or its documents."""
        return cls(
            rows=len(texts),
            main=max(sum(n_targets(lengths) for lengths in texts), 1),
            mtp=max(sum(n_targets(lengths, ahead=2) for lengths in texts), 1),
        )


def n_targets(lengths: NDArray[np.int32], ahead: int = 1) -> int:
    """Tokens that the one `ahead` before them predicts, in texts of these lengths."""
    return int(np.maximum(lengths - ahead, 0).sum())


@dataclass(frozen=True, kw_only=True)
class Losses:
    """`total` carries the gradient, the others are detached parts before weighting."""

    total: Tensor
    main: Tensor
    mtp: Tensor  # 0 without an MTP module
    balance: Tensor  # summed over MoE layers: about their number when rows are even
    main_nats_B: Tensor  # of each row, summed over its targets


def compute_losses(
    model: Transformer,
    output: Output,
    ids_BT: Tensor,
    valid_BT: Tensor,
    documents_BT: Tensor | None,
    counts: TargetCounts,
    *,
    mtp_weight: float,
    alpha: float,
) -> Losses:
    """This micro-batch's share of the batch's losses.

    Each prediction loss is the mean over its own valid targets in the batch [Eq. 24 divides both by
    T, a difference of one part in T]; the balance loss is the mean over rows, summed over layers.
    """
    zero = output.hidden_BTD.new_zeros((), dtype=torch.float32)
    targets_BT = targets_of(valid_BT, documents_BT, ahead=1)
    main_nats, main_nats_B = _prediction_loss(model, output.hidden_BTD, ids_BT, targets_BT)
    main = main_nats / counts.main
    mtp = zero
    if output.mtp_hidden_BTD is not None:
        targets_BT = targets_of(valid_BT, documents_BT, ahead=2)
        mtp_nats, _ = _prediction_loss(model, output.mtp_hidden_BTD, ids_BT, targets_BT)
        mtp = mtp_nats / counts.mtp
    share_of_rows = len(ids_BT) / counts.rows
    balance = sum((routing.balance_loss for routing in output.routings), zero) * share_of_rows
    return Losses(
        total=main + mtp_weight * mtp + alpha * balance,
        main=main.detach(),
        mtp=mtp.detach(),
        balance=balance.detach(),
        main_nats_B=main_nats_B,
    )


def targets_of(valid_BT: Tensor, documents_BT: Tensor | None, *, ahead: int) -> Tensor:
    """Which tokens the one `ahead` before them predicts, bool [B, T - ahead]: those that are no
    padding and, where documents are apart, of the same document."""
    targets_BT = valid_BT[:, ahead:]
    if documents_BT is None:
        return targets_BT
    return targets_BT & (documents_BT[:, ahead:] == documents_BT[:, :-ahead])


def _prediction_loss(
    model: Transformer, hidden_BTD: Tensor, ids_BT: Tensor, targets_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """Nats of the targets [B, T - ahead] under the states `ahead` before them: their sum, with
    gradient, and that of each row [B]."""
    n_targets = targets_BT.shape[1]
    total, nll_N = head_cross_entropy(
        hidden_BTD[:, :n_targets][targets_BT],
        model.head.weight,
        ids_BT[:, ids_BT.shape[1] - n_targets :][targets_BT],
    )
    rows_N = targets_BT.nonzero()[:, 0]
    return total, nll_N.new_zeros(len(ids_BT)).index_add_(0, rows_N, nll_N)


@torch.no_grad()
def token_losses(
    model: Transformer, ids_BT: Tensor, valid_BT: Tensor, documents_BT: Tensor | None
) -> Tensor:
    """Nats of each token given those before it, [B, T]; NaN where there are none (the first of a
    row, or of a document that is apart) and for padding."""
    output = model(ids_BT, valid_BT, documents_BT)
    targets_BT = targets_of(valid_BT, documents_BT, ahead=1)
    _, nll_N = head_cross_entropy(
        output.hidden_BTD[:, :-1][targets_BT], model.head.weight, ids_BT[:, 1:][targets_BT]
    )
    losses_BT = nll_N.new_full(ids_BT.shape, math.nan)
    losses_BT[:, 1:][targets_BT] = nll_N
    return losses_BT
