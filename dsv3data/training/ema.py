"""An exponential moving average of the weights, in CPU memory, for evaluation [§3.2.3].

It is brought up to date by a thread while the next step runs; the values do not depend on when.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from dsv3data.training.host_copy import copy_to_host, host_buffers


class WeightAverage:
    """average = decay · average + (1 - decay) · weights after every step, in fp32.

    Router biases belong to the weights here. Memory: twice the weights, on the CPU.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._average = {n: t.detach().float().cpu().clone() for n, t in model.state_dict().items()}
        self._copy = host_buffers(model.state_dict())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weight-average")
        self._pending: Future[None] | None = None

    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are now; returns once they are copied."""
        self._wait()
        copy_to_host(model.state_dict(), self._copy)
        self._pending = self._thread.submit(self._blend)

    def state(self) -> dict[str, Tensor]:
        """The average, under the names of the weights."""
        self._wait()
        return self._average

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        self._wait()
        for name, tensor in self._average.items():
            tensor.copy_(tensors[name])

    def _blend(self) -> None:
        with torch.no_grad():
            for name, average in self._average.items():
                average.lerp_(self._copy[name], 1 - self._decay)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
