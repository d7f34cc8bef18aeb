"""Continuing a prompt, with or without speculation by the MTP module [§2.2, §5.4.3].

Without it the model reads one token to choose the next. With it the MTP module guesses the token
after the next one; the model reads both at once, and if the guess is what it would have chosen
itself, one reading has given two tokens. Nothing else changes: the tokens are the same, unless two
logits are so close that the order of a sum decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsv3data.contracts.errors import BadInput
from dsv3data.generation.decoder import Decoder
from dsv3data.generation.sampling import SamplingConfig, draw
from dsv3data.model.transformer import Transformer


@dataclass(kw_only=True)
class Generation:
    """New ids, the last one being `stop_id` if the text ended, and how the guesses did."""

    ids: list[int]
    guessed: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """Share of guesses that were right; DeepSeek-V3's is 85 to 90 % [§5.4.3]."""
        return self.accepted / self.guessed if self.guessed else 0.0


@torch.inference_mode()
def generate(
    model: Transformer,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    stop_id: int,
    n_ids: int,
    sampling: SamplingConfig,
    speculative: bool = False,
    on_token: Callable[[int], None] = lambda token: None,
) -> Generation:
    """Continue `prompt` by at most `max_tokens` ids, or up to `stop_id`.

    Args:
        n_ids: ids that the tokenizer has; rows of the embedding beyond them are padding.
        speculative: guess with the MTP module, if the model has one.
        on_token: called with each id as soon as it is sure.

    Raises:
        BadInput: no prompt, or more tokens than the model's context holds.
    """
    check_length(model, len(prompt), max_tokens)
    # A guess at the end may be read in vain.
    decoder = Decoder(model, len(prompt) + max_tokens + 1)
    writer = _Writer(len(prompt), max_tokens, stop_id, n_ids, sampling, on_token)
    ids_S = as_ids(prompt, model)
    states_SD = decoder.read(ids_S)
    writer.add(decoder.logits(states_SD[-1:])[0])
    if speculative and model.mtp is not None:
        _speculate(decoder, writer, ids_S, states_SD)
    else:
        while not writer.finished:
            states_SD = decoder.read(as_ids(writer.result.ids[-1:], model))
            writer.add(decoder.logits(states_SD)[0])
    return writer.result


class _Writer:
    """Draws tokens, keeps them, and knows when to stop."""

    def __init__(
        self,
        start: int,
        max_tokens: int,
        stop_id: int,
        n_ids: int,
        sampling: SamplingConfig,
        on_token: Callable[[int], None],
    ) -> None:
        self.result = Generation(ids=[])
        self._start, self._max_tokens, self._stop_id = start, max_tokens, stop_id
        self._n_ids, self._sampling, self._on_token = n_ids, sampling, on_token

    @property
    def finished(self) -> bool:
        ids = self.result.ids
        return len(ids) >= self._max_tokens or self._stop_id in ids[-1:]

    def add(self, logits_V: Tensor) -> int:
        """The next token."""
        token = self._draw(logits_V)
        self.result.ids.append(token)
        self._on_token(token)
        return token

    def guess(self, logits_V: Tensor) -> int:
        """What the token after the last one may be: drawn with the noise of its place."""
        self.result.guessed += 1
        return self._draw(logits_V)

    def _draw(self, logits_V: Tensor) -> int:
        position = self._start + len(self.result.ids)
        return draw(logits_V[: self._n_ids], position, self._sampling)


def _speculate(decoder: Decoder, writer: _Writer, prompt_S: Tensor, states_SD: Tensor) -> None:
    """Read the last token together with a guess of the next one, until the writer has enough.

    `states_SD` are of tokens that the MTP module has not seen; behind the last of them stands the
    newest token.
    """
    model, ids = decoder.model, writer.result.ids
    behind = [*prompt_S[1:].tolist(), ids[-1]]
    while not writer.finished:
        ahead_SD = decoder.look_ahead(states_SD, as_ids(behind, model))
        guess = writer.guess(model.logits(ahead_SD[-1]))
        states_SD = decoder.read(as_ids([ids[-1], guess], model))
        logits_SV = decoder.logits(states_SD)
        if writer.add(logits_SV[0]) == guess:
            writer.result.accepted += 1
            if not writer.finished:
                writer.add(logits_SV[1])
            behind = ids[-2:]
        else:
            decoder.forget(1)
            states_SD, behind = states_SD[:1], ids[-1:]


def as_ids(ids: Sequence[int], model: Transformer) -> Tensor:
    """int64, where the model is."""
    return torch.as_tensor(ids, dtype=torch.int64, device=model.embedding.weight.device)


def check_length(model: Transformer, n_prompt: int, max_tokens: int) -> None:
    """Refuse what the model's context does not hold.

    Raises:
        BadInput: no prompt, or too many tokens.
    """
    context = model.config.context
    if n_prompt < 1 or n_prompt + max_tokens > context:
        raise BadInput(
            f"a prompt of {n_prompt:,} and {max_tokens:,} new tokens do not fit: a prompt has at "
            f"least one token, and the model reads {context:,}",
            where="--prompt and --max-tokens",
            effect="nothing was generated",
            fix=f"ask for at most {max(0, context - n_prompt):,} tokens, or give another prompt",
        )
