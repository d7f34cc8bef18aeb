"""What was in a batch: its documents through lineage, their losses, how much they repeat.

Legend: B rows, T tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsv3data.audit.packed_rows import Origin, PackedRows
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.data import Batch
from dsv3data.training.loss import token_losses
from dsv3data.training.metrics import finite_or_none
from dsv3data.training.repetition import Repetition, repetition
from dsv3data.training.spikes import robust_limit
from dsv3data.training.step import micro_batches

# A document stands out with a loss so many robust standard deviations above the batch's documents,
_LOSS_Z = 6.0
# or where more than this share of its 8-grams stood in it before.
_REPEATED = 0.5


@dataclass(frozen=True, kw_only=True)
class DocumentFinding:
    """A document's piece in a row.

    Attributes:
        loss: nats a token under the weights it was looked at with; None if not finite, or if the
            piece has no token that anything predicts.
        stands_out: why it is suspected: "loss", "repetition", or neither.
    """

    row_id: int
    domain: str
    source: str
    position: int
    key: str
    piece: int
    n_pieces: int
    n_tokens: int
    loss: float | None
    repetition: Repetition
    stands_out: tuple[str, ...]

    def to_tree(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Lineage:
    """Which documents stand in the rows of a packed set."""

    def __init__(self, dataset: PackedDataset) -> None:
        self._dataset = dataset

    def pieces(self, row_id: int) -> Sequence[Origin]:
        """The pieces of a row, given by its number in the set, in its order.

        Raises:
            IntegrityError: damage, where it is met.
        """
        return self._rows.row(row_id).origins

    @cached_property
    def _rows(self) -> PackedRows:
        # Most runs never ask.
        return PackedRows(self._dataset.folder)


def examine(
    model: Transformer,
    batch: Batch,
    domains: Sequence[str],
    lineage: Lineage,
    config: TrainConfig,
) -> list[DocumentFinding]:
    """Every piece of a batch in the order of its rows, looked at with the model as it is.

    Raises:
        IntegrityError: damaged lineage.
    """
    losses_BT = batch_losses(model, batch, config)
    found: list[tuple[int, str, Origin, NDArray[np.int32], NDArray[np.float64]]] = []
    for number, row_id in enumerate(batch.row_ids.tolist()):
        start = 0
        for origin in lineage.pieces(row_id):
            here = slice(start, start + origin.n_tokens)
            domain = domains[batch.domain_ids[number]]
            ids, losses = batch.input_ids[number, here], losses_BT[number, here]
            found.append((row_id, domain, origin, ids, losses))
            start += origin.n_tokens
    means = [_mean(origin, losses, config) for _, _, origin, _, losses in found]
    finite = [mean for mean in means if mean is not None and math.isfinite(mean)]
    limit = robust_limit(finite, _LOSS_Z) if finite else 0.0
    return [
        _finding(row_id, domain, origin, repetition(ids), mean, limit)
        for (row_id, domain, origin, ids, _), mean in zip(found, means, strict=True)
    ]


def batch_losses(model: Transformer, batch: Batch, config: TrainConfig) -> NDArray[np.float64]:
    """Nats of each token of a batch, [B, T], as `token_losses` has them."""
    parts = [
        token_losses(model, micro.ids_BT, micro.valid_BT, micro.documents_BT)
        for micro in micro_batches(batch, config, model.head.weight.device)
    ]
    losses: NDArray[np.float64] = torch.cat(parts).double().cpu().numpy()
    return losses


def to_quarantine(documents: Sequence[DocumentFinding], step: int) -> list[dict[str, Any]]:
    """Lines for `pack --exclude`: the documents that stand out; where none does, all of the batch,
    because any of them may be the cause. Each document once."""
    chosen = [document for document in documents if document.stands_out] or documents
    once: dict[str, DocumentFinding] = {}
    for document in chosen:
        once.setdefault(document.key, document)
    return [
        {
            "source": document.source,
            "position": document.position,
            "key": document.key,
            "step": step,
            "why": ", ".join(document.stands_out) or "in a skipped step",
        }
        for document in once.values()
    ]


def _mean(origin: Origin, losses: NDArray[np.float64], config: TrainConfig) -> float | None:
    """Of a piece's tokens; None without any that is predicted: the first of a row is not, nor of a
    document that is apart."""
    predicted = losses[1:] if origin.slot == 0 or config.document_mask else losses
    return float(predicted.mean()) if len(predicted) else None


def _finding(
    row_id: int,
    domain: str,
    origin: Origin,
    measures: Repetition,
    mean: float | None,
    limit: float,
) -> DocumentFinding:
    reasons = {
        "loss": mean is not None and not mean <= limit,  # NaN stands out
        "repetition": measures.repeated > _REPEATED,
    }
    return DocumentFinding(
        row_id=row_id,
        domain=domain,
        source=origin.source,
        position=origin.position,
        key=origin.key.hex(),
        piece=origin.piece,
        n_pieces=origin.n_pieces,
        n_tokens=origin.n_tokens,
        loss=None if mean is None else finite_or_none(mean),
        repetition=measures,
        stands_out=tuple(reason for reason, holds in reasons.items() if holds),
    )
