"""One optimizer step: gradients over micro-batches, a finite check, AdamW, the router biases.

Legend: B rows of the batch, T tokens of a row, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsv3data.loader.documents import document_numbers
from dsv3data.model.router import update_bias
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.data import Batch
from dsv3data.training.load import LayerLoad, nodes_per_token
from dsv3data.training.loss import TargetCounts, compute_losses, n_targets
from dsv3data.training.optimizer import AdamW
from dsv3data.training.schedule import Knobs
from dsv3data.training.spikes import StepLimits


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step measured; floats may be NaN or infinite when `skipped`."""

    loss: float
    main_loss: float  # nats per target
    row_losses_B: NDArray[np.float64]  # main loss of each row; NaN for a row without a target
    row_targets_B: NDArray[np.int64]  # next tokens that were predicted in each row
    mtp_loss: float
    balance_loss: float  # before alpha, summed over MoE layers
    grad_norm: float  # before clipping
    loads: tuple[Tensor, ...]  # int64 [E] per router, the MTP block's last; on the CPU, as below
    loads_by_domain: tuple[Tensor, ...]  # the same, int64 [G, E]; G up to the batch's last domain
    nodes_per_token: float  # groups of experts that a token visits in a layer; NaN without experts
    n_tokens: int  # valid tokens of the batch
    n_targets: int
    bias_shift: float  # largest move of a router bias; gamma unless every load was even
    skipped: str  # why nothing was changed (not weights, not moments, not biases); "" if it was


def train_step(
    model: Transformer,
    optimizer: AdamW,
    batch: Batch,
    knobs: Knobs,
    config: TrainConfig,
    limits: StepLimits,
) -> StepResult:
    """Update model and optimizer in place; leave both bitwise alone if a number is not finite or
    beyond its limit."""
    optimizer.zero_grad()
    texts = texts_of(batch, config)
    counts = TargetCounts.of(texts)
    row_targets_B = np.array([n_targets(lengths) for lengths in texts], dtype=np.int64)
    parts, loads, row_nats_B = _accumulate_gradients(model, batch, counts, knobs, config)
    by_layer = [load.by_layer_E for load in loads]
    # Clips gradients only; a norm that is not finite leaves them useless, and unused.
    grad_norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip))
    loss, main_loss, mtp_loss, balance_loss = parts.tolist()
    skipped = ""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        skipped = "not finite"
    elif not limits.allow(main_loss, grad_norm):
        skipped = "spike"
    bias_shift = 0.0
    if not skipped:
        optimizer.step(knobs.lr)
        bias_shift = _update_biases(model, by_layer, knobs.gamma)
    return StepResult(
        loss=loss,
        main_loss=main_loss,
        row_losses_B=_per_target(row_nats_B.double().numpy(), row_targets_B),
        row_targets_B=row_targets_B,
        mtp_loss=mtp_loss,
        balance_loss=balance_loss,
        grad_norm=grad_norm,
        loads=_on_host(by_layer),
        loads_by_domain=_on_host([load.by_domain_GE for load in loads]),
        nodes_per_token=nodes_per_token(loads),
        n_tokens=int(batch.n_tokens.sum()),
        n_targets=counts.main,
        bias_shift=bias_shift,
        skipped=skipped,
    )


def _accumulate_gradients(
    model: Transformer, batch: Batch, counts: TargetCounts, knobs: Knobs, config: TrainConfig
) -> tuple[Tensor, list[LayerLoad], Tensor]:
    """Forward and backward of every micro-batch.

    Returns the batch's (total, main, MTP, balance) loss, fp64 [4], each router's load, and the nats
    of each row [B].
    """
    row_nats = []
    device = model.head.weight.device
    parts = torch.zeros(4, dtype=torch.float64, device=device)
    n_domains = int(batch.domain_ids.max()) + 1
    loads = [LayerLoad(model.config, n_domains, device) for _ in model.routers()]
    for micro in micro_batches(batch, config, device):
        output = model(micro.ids_BT, micro.valid_BT, micro.documents_BT)
        losses = compute_losses(
            model,
            output,
            micro.ids_BT,
            micro.valid_BT,
            micro.documents_BT,
            counts,
            mtp_weight=knobs.mtp_weight,
            alpha=config.balance.alpha,
        )
        losses.total.backward()  # type: ignore[no-untyped-call]
        parts += torch.stack((losses.total.detach(), losses.main, losses.mtp, losses.balance))
        row_nats.append(losses.main_nats_B)
        for load, routing in zip(loads, output.routings, strict=True):
            load.add(routing, micro.domains_B)
    return parts.cpu(), loads, torch.cat(row_nats).cpu()


def _per_target(nats_B: NDArray[np.float64], targets_B: NDArray[np.int64]) -> NDArray[np.float64]:
    losses_B = np.full(len(nats_B), math.nan)
    np.divide(nats_B, targets_B, out=losses_B, where=targets_B > 0)
    return losses_B


def _on_host(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensors of one shape on the CPU, waited for once."""
    return torch.stack(list(tensors)).cpu().unbind() if tensors else ()


def _update_biases(model: Transformer, loads: list[Tensor], gamma: float) -> float:
    """Move every router's bias by the whole batch's load; the largest move."""
    moves = []
    for router, load_E in zip(model.routers(), loads, strict=True):
        before_E = router.bias_E.clone()
        update_bias(router.bias_E, load_E, gamma)
        moves.append((router.bias_E - before_E).abs().max())
    return float(torch.stack(moves).max()) if moves else 0.0


def texts_of(batch: Batch, config: TrainConfig) -> Sequence[NDArray[np.int32]]:
    """Lengths of what is read as one text in each row: the row, or each of its documents."""
    return batch.piece_lengths if config.document_mask else list(batch.n_tokens[:, None])


def target_bytes(batch: Batch, config: TrainConfig, bytes_per_id_V: NDArray[np.int64]) -> int:
    """UTF-8 bytes that the predicted tokens decode to: the denominator of bits per byte."""
    total = 0
    for ids_T, lengths in zip(batch.input_ids, texts_of(batch, config), strict=True):
        stops = np.cumsum(lengths)
        total += int(bytes_per_id_V[ids_T[: stops[-1]]].sum())
        total -= int(bytes_per_id_V[ids_T[stops - lengths]].sum())  # what nothing predicts
    return total


def as_int64(array: NDArray[np.int32]) -> Tensor:
    """A copy of the loader's ids; the loader may hand out read-only views of a mapped file."""
    return torch.from_numpy(array.astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What the model reads in one forward pass."""

    ids_BT: Tensor  # int64
    valid_BT: Tensor  # bool: no padding
    domains_B: Tensor  # int64
    documents_BT: Tensor | None  # equal numbers may see one another; None: all may


def micro_batches(batch: Batch, config: TrainConfig, device: torch.device) -> Iterator[MicroBatch]:
    """The batch in parts of `micro_batch_rows` rows; 0: all at once."""
    n_rows = config.micro_batch_rows or len(batch.n_tokens)
    for start in range(0, len(batch.n_tokens), n_rows):
        rows = slice(start, start + n_rows)
        ids_BT = as_int64(batch.input_ids[rows]).to(device)
        lengths_B = as_int64(batch.n_tokens[rows]).to(device)
        documents_BT = None
        if config.document_mask:
            numbers = document_numbers(batch.piece_lengths[rows], ids_BT.shape[1])
            documents_BT = torch.from_numpy(numbers).to(device)
        yield MicroBatch(
            ids_BT=ids_BT,
            valid_BT=torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None],
            domains_B=as_int64(batch.domain_ids[rows]).to(device),
            documents_BT=documents_BT,
        )
