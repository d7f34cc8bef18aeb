"""What a run uses and costs, by the formulas of the published figures [§1; arXiv 2505.09343].

DeepSeek-V3 on H800: 1541.7 tokens/s a GPU at 250.4 GFLOP a token are 386 TFLOP/s; 2.788M GPU hours
at 2 dollars are 5.576M dollars.
"""

from __future__ import annotations


def tflop_per_s(tokens_per_s: float, flop_per_token: float) -> float:
    """What the model's own arithmetic amounts to, recomputation not counted."""
    return tokens_per_s * flop_per_token / 1e12


def utilisation(tflop_per_s: float, peak_tflop_per_s: float) -> float | None:
    """Model FLOP utilisation, MFU; None where the peak is not known (0)."""
    return tflop_per_s / peak_tflop_per_s if peak_tflop_per_s else None


def device_hours(tokens: float, tokens_per_s: float) -> float:
    """Hours of one device for so many tokens at its rate."""
    return tokens / tokens_per_s / 3600


def dollars(hours: float, dollars_per_hour: float) -> float | None:
    """None where the price is not known (0)."""
    return hours * dollars_per_hour if dollars_per_hour else None
