"""The kernels on a real GPU; `make gpu` runs the same checks without pytest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernel_checks import CHECKS, Draw


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_on_a_gpu(check: Callable[[Draw], None]) -> None:
    check(Draw("cuda", 0, largest=300))
