"""How far a quantised result is from the exact one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dsv3data.kernels.formats import Rows
from dsv3data.kernels.reference import dequantise_rows

# Bounds of a product of two Gaussian matrices in E4M3 against fp64. Above them is a fault, not
# rounding: the error of such a product is 0.037 at any size.
LARGEST_RELATIVE_ERROR = 0.045
LARGEST_DIFF = 1e-3


def relative_error(found: Tensor, exact: Tensor) -> float:
    """‖found - exact‖ / ‖exact‖, Frobenius, in fp64; 0 for two zeros."""
    distance = float((found.double() - exact.double()).norm())
    return distance and distance / float(exact.double().norm())


def calc_diff(found: Tensor, exact: Tensor) -> float:
    """1 - 2·⟨x, y⟩ / (⟨x, x⟩ + ⟨y, y⟩), as DeepGEMM judges its GEMMs."""
    x, y = found.double(), exact.double()
    return 1 - float(2 * (x * y).sum() / (x * x + y * y).sum())


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What quantising one tensor lost."""

    relative_error: float
    underflow_share: float  # of the values that were not 0, those that became 0


def loss_of(x_RC: Tensor, q: Rows) -> Loss:
    """Compare a matrix with its codes."""
    back_RC = dequantise_rows(q)
    alive = x_RC != 0
    gone = alive & (back_RC == 0)
    return Loss(
        relative_error=relative_error(back_RC, x_RC),
        underflow_share=int(gone.sum()) / max(int(alive.sum()), 1),
    )
