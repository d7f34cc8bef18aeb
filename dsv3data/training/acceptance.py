"""How often the main model would have chosen what its MTP module guesses [§2.2, §5.4.3].

DeepSeek-V3's guesses of the second next token are accepted in 85 to 90 % of the cases.
Legend: B rows, T tokens of a row, D model width, N positions with two tokens behind them.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.cross_entropy import CHUNK
from dsv3data.training.data import Batch
from dsv3data.training.loss import targets_of
from dsv3data.training.step import micro_batches


@torch.no_grad()
def mtp_acceptance(model: Transformer, batch: Batch, config: TrainConfig) -> float | None:
    """Share of positions of the batch's first row where both expect the same token most; None
    without a module or a position.

    The tokens before are those of the text. `generate` measures the same with tokens of its own.
    Cost: one row forward, and the head twice.
    """
    one_row = replace(config, micro_batch_rows=1)
    row = next(micro_batches(batch, one_row, model.head.weight.device))
    output = model(row.ids_BT, row.valid_BT, row.documents_BT)
    if output.mtp_hidden_BTD is None:
        return None
    # The module at position i and the main model at i + 1 both predict token i + 2.
    pairs_BT = targets_of(row.valid_BT, row.documents_BT, ahead=2)
    main_ND = output.hidden_BTD[:, 1:-1][pairs_BT]
    mtp_ND = output.mtp_hidden_BTD[:, :-1][pairs_BT]
    agreed = 0
    for main_cD, mtp_cD in zip(main_ND.split(CHUNK), mtp_ND.split(CHUNK), strict=True):
        agreed += int((model.logits(main_cD).argmax(-1) == model.logits(mtp_cD).argmax(-1)).sum())
    return agreed / len(main_ND) if len(main_ND) else None
