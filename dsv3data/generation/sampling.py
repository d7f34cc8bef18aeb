"""Drawing the next token: a function of the logits, the seed and the position alone.

By the Gumbel-max trick [arXiv 1411.0030 §2]: the largest of logits / temperature + Gumbel noise is
a draw from the softmax. The noise is keyed by (seed, position). So a draft that is drawn with the
noise of its position meets the final draw as often as the two distributions allow, and speculation
changes no token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.keys import stream_constant


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: only the likeliest tokens that together have this probability, 1 for all.
        seed: of the noise.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise _bad("temperature", self.temperature, "0 (the likeliest token) or more")
        if not 0 < self.top_p <= 1:
            raise _bad("top_p", self.top_p, "above 0 and at most 1")


def draw(logits_V: Tensor, position: int, config: SamplingConfig) -> int:
    """The token at `position` of the sequence."""
    if config.temperature == 0:
        return int(logits_V.argmax())
    scaled_V = logits_V.float() / config.temperature
    if config.top_p < 1:
        scaled_V = _likeliest(scaled_V, config.top_p)
    return int((scaled_V + gumbel_noise(len(scaled_V), position, config.seed)).argmax())


def gumbel_noise(size: int, position: int, seed: int) -> Tensor:
    """-log(-log u) for uniform u, fp32 [size], on the CPU whatever the model runs on."""
    generator = torch.Generator()
    generator.manual_seed(stream_constant(seed, f"generate-{position}") >> 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    noise: Tensor = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
    return noise.float()


def _likeliest(logits_V: Tensor, top_p: float) -> Tensor:
    """Logits with -inf outside the smallest set of tokens that has probability `top_p`."""
    sorted_V, order_V = logits_V.sort(descending=True)
    before_V = sorted_V.softmax(-1).cumsum(-1) - sorted_V.softmax(-1)
    return logits_V.scatter(-1, order_V[before_V >= top_p], float("-inf"))


def _bad(name: str, value: float, expected: str) -> BadConfig:
    return BadConfig(
        f"{name} must be {expected}, not {value:g}",
        where=f"--{name.replace('_', '-')}",
        effect="nothing was generated",
        fix="0.7 with top_p 0.95 is a usual choice for text, 0 for code",
    )
