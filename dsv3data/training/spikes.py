"""What a loss or gradient may be, judged by the steps before: a spike never reaches the optimizer.

The limit is median + z · 1.4826 · (median distance from the median), the robust twin of "z standard
deviations above the mean": a spike or two in the window do not move it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dsv3data.training.config import SpikeConfig

# Makes the median distance of a normal distribution its standard deviation.
_TO_SIGMA = 1.4826
# Where steps are nearly alike, a deviation is at least this part of the median. For gradient norms
# more: they double for many steps while a model learns something new.
_LEAST_SIGMA, _LEAST_SIGMA_OF_NORM = 0.01, 0.25


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """Largest main loss and gradient norm of a step that is to count."""

    loss: float = math.inf
    grad_norm: float = math.inf

    def allow(self, loss: float, grad_norm: float) -> bool:
        """Whether a step with these (finite) values may change the weights."""
        return loss <= self.loss and grad_norm <= self.grad_norm


NO_LIMITS = StepLimits()


def step_limits(recent: Sequence[Sequence[float]], config: SpikeConfig) -> StepLimits:
    """Limits from the (loss, gradient norm) of the last steps that counted; none while they are
    fewer than a quarter of the window, or with z = 0."""
    if config.z == 0 or 4 * len(recent) < config.window:
        return NO_LIMITS
    losses, norms = zip(*recent, strict=True)
    return StepLimits(
        loss=robust_limit(losses, config.z),
        grad_norm=robust_limit(norms, config.z, least=_LEAST_SIGMA_OF_NORM),
    )


def robust_limit(values: Sequence[float], z: float, *, least: float = _LEAST_SIGMA) -> float:
    """`z` robust standard deviations above the median of `values`, at least one of them; one
    deviation is `least` of the median or more."""
    middle = statistics.median(values)
    distance = statistics.median(abs(value - middle) for value in values)
    return middle + z * max(_TO_SIGMA * distance, least * abs(middle))
