"""A model that reads its tokens one after the other, over caches, for one sequence.

Legend: S new tokens, D model width, V vocabulary rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv3data.generation.latent_cache import LatentCache, attend
from dsv3data.model.block import Block
from dsv3data.model.moe import MoE
from dsv3data.model.rope import rope_tables
from dsv3data.model.transformer import Transformer

SCORES = 1 << 25  # 128 MiB in fp32, and as much again for their softmax


class Decoder:
    """States of new tokens from their ids, those before them being in the caches.

    Memory of the caches: capacity · (kv_lora_rank + d_qk_rope) numbers a layer. A long text is read
    in parts, so that the scores of a layer stay below `SCORES` numbers whatever its length.
    """

    def __init__(self, model: Transformer, capacity: int) -> None:
        self.model = model
        self.length = 0  # tokens that the main model has read
        self.mtp_length = 0  # positions that the MTP module has read
        self._rope = rope_tables(model.config, capacity, model.embedding.weight.device)
        like = model.embedding.weight.detach().to(model.stream_dtype)
        self._caches = [LatentCache(model.config, capacity, like) for _ in model.blocks]
        self._rows_at_once = max(1, SCORES // (model.config.n_heads * capacity))
        self._mtp_cache = LatentCache(model.config, capacity, like)

    def read(self, ids_S: Tensor) -> Tensor:
        """The main model on the next tokens: states before the final norm [S, D]."""
        return torch.cat([self._read(part_S) for part_S in torch.split(ids_S, self._rows_at_once)])

    def logits(self, states_SD: Tensor) -> Tensor:
        """What the main model expects behind each state [S, V]."""
        return self.model.logits(self.model.final_norm(states_SD))

    def look_ahead(self, states_SD: Tensor, next_ids_S: Tensor) -> Tensor:
        """The MTP module on positions that it has not read yet: states for the head [S, D], which
        expect the token two behind each.

        Args:
            states_SD: of those positions, as `read` returned them.
            next_ids_S: the token behind each.
        """
        rows = self._rows_at_once
        parts = zip(torch.split(states_SD, rows), torch.split(next_ids_S, rows), strict=True)
        return torch.cat([self._look_ahead(*part) for part in parts])

    def forget(self, n_tokens: int) -> None:
        """Go back by tokens that were read in vain; the MTP module must not have read them."""
        self.length -= n_tokens
        assert self.mtp_length <= self.length

    def _read(self, ids_S: Tensor) -> Tensor:
        start, self.length = self.length, self.length + len(ids_S)
        x_SD: Tensor = self.model.embedding(ids_S).to(self.model.stream_dtype)
        rope = self._rope_of(start, self.length)
        for block, cache in zip(self.model.blocks, self._caches, strict=True):
            assert isinstance(block, Block)
            x_SD = _through(block, cache, start, x_SD, rope)
        return x_SD

    def _look_ahead(self, states_SD: Tensor, next_ids_S: Tensor) -> Tensor:
        model = self.model
        assert model.mtp is not None
        start, self.mtp_length = self.mtp_length, self.mtp_length + len(states_SD)
        if model.config.mtp_hidden == "after_final_norm":
            states_SD = model.final_norm(states_SD)
        next_SD = model.embedding(next_ids_S).to(model.stream_dtype)
        joined = model.mtp.join(model.mtp.hidden_norm(states_SD), model.mtp.embedding_norm(next_SD))
        rope = self._rope_of(start, self.mtp_length)
        x_SD = _through(model.mtp.block, self._mtp_cache, start, model.mtp.projection(joined), rope)
        ahead_SD: Tensor = model.mtp.final_norm(x_SD)
        return ahead_SD

    def _rope_of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        return self._rope[0][start:stop], self._rope[1][start:stop]


def _through(
    block: Block, cache: LatentCache, start: int, x_SD: Tensor, rope: tuple[Tensor, Tensor]
) -> Tensor:
    """One block, as `Block.forward` has it, over its cache."""
    x_SD = x_SD + attend(block.attention, cache, start, block.attention_norm(x_SD), rope)
    normed_SD = block.ffn_norm(x_SD)
    if isinstance(block.ffn, MoE):
        valid_1S = torch.ones(1, len(x_SD), dtype=torch.bool, device=x_SD.device)
        y_1SD, _ = block.ffn(normed_SD[None], valid_1S)
        return x_SD + torch.squeeze(y_1SD, 0)
    y_SD: Tensor = block.ffn(normed_SD)
    return x_SD + y_SD
