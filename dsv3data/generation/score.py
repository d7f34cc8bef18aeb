"""How well a model foresees a given answer: what retrieval at long context is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dsv3data.generation.decoder import Decoder
from dsv3data.generation.generate import as_ids, check_length
from dsv3data.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of each token of an answer, those before it being given."""

    nats: list[float]
    likeliest: list[bool]  # whether it is what the model would have chosen

    @property
    def found(self) -> bool:
        """Greedy generation would have given the whole answer."""
        return all(self.likeliest)


@torch.inference_mode()
def score(model: Transformer, prompt: Sequence[int], answer: Sequence[int], *, n_ids: int) -> Score:
    """Read the prompt and the answer once, over latent caches: memory is that of `Decoder`, and
    logits are made for the answer alone.

    Args:
        n_ids: ids that the tokenizer has; rows of the embedding beyond them are padding.

    Raises:
        BadInput: no prompt, or more tokens than the model's context holds.
    """
    check_length(model, len(prompt), len(answer))
    decoder = Decoder(model, len(prompt) + len(answer))
    states_SD = decoder.read(as_ids([*prompt, *answer[:-1]], model))[len(prompt) - 1 :]
    logits_SV = decoder.logits(states_SD)[:, :n_ids].float()
    answer_S = as_ids(answer, model)
    nats_S = torch.nn.functional.cross_entropy(logits_SV, answer_S, reduction="none")
    return Score(nats=nats_S.tolist(), likeliest=(logits_SV.argmax(dim=-1) == answer_S).tolist())
