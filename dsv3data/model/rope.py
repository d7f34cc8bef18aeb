"""Rotary positions with YaRN, as in DeepSeek's inference code [§2.1.1, §4.3; arXiv 2309.00071].

Legend: T positions, P = d_qk_rope / 2 frequency pairs, H heads, B batch.
The two numbers that share a frequency are neighbours (x0, x1), (x2, x3), …: released weights are
stored for this interleaved order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dsv3data.model.config import ModelConfig


def rope_tables(
    config: ModelConfig, n_positions: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle: two fp32 [T, P]."""
    frequencies_P = rope_frequencies(config).to(device)
    positions_T = torch.arange(n_positions, dtype=torch.float32, device=device)
    angles_TP = torch.outer(positions_T, frequencies_P)
    return angles_TP.cos(), angles_TP.sin()


def rotate(x_BTHR: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each neighbouring pair of the last axis (R = 2P) by its position's angle.

    The tables are [T, P], or [B, T, P] where rows have positions of their own. A pair is a complex
    number: multiplying it by cos + i·sin reads and writes it once.
    """
    turns = torch.complex(*tables).unsqueeze(-2)  # the same for every head
    pairs = torch.view_as_complex(torch.unflatten(x_BTHR.float(), -1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x_BTHR.dtype)


def rope_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each pair, fp32 [P]: theta^(-2p / d_qk_rope), stretched by YaRN."""
    width = config.d_qk_rope
    exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
    frequencies = 1.0 / config.rope_theta**exponents
    if not config.uses_yarn:
        return frequencies
    keep = 1 - _ramp(*_correction_range(config), width // 2)
    return frequencies / config.yarn.factor * (1 - keep) + frequencies * keep


def softmax_scale(config: ModelConfig) -> float:
    """(d_qk_nope + d_qk_rope)^-1/2, under YaRN times (0.1 · mscale · ln factor + 1)² [§4.3]."""
    scale: float = (config.d_qk_nope + config.d_qk_rope) ** -0.5
    if config.uses_yarn:
        scale *= (0.1 * config.yarn.mscale * math.log(config.yarn.factor) + 1.0) ** 2
    return scale


def _correction_range(config: ModelConfig) -> tuple[int, int]:
    """Pair numbers between which YaRN blends from unchanged to fully interpolated."""
    low = math.floor(_pair_turning(config.yarn.beta, config))
    high = math.ceil(_pair_turning(config.yarn.alpha, config))
    return max(low, 0), min(high, config.d_qk_rope - 1)


def _pair_turning(rotations: float, config: ModelConfig) -> float:
    """The (fractional) pair that turns `rotations` times within the original context."""
    wavelength = config.yarn.original_context / (rotations * 2 * math.pi)
    return config.d_qk_rope * math.log(wavelength) / (2 * math.log(config.rope_theta))


def _ramp(low: int, high: int, size: int) -> Tensor:
    width = high - low if high != low else 0.001
    return ((torch.arange(size, dtype=torch.float32) - low) / width).clamp(0, 1)
