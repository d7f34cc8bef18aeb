"""AdamW [arXiv 1711.05101, Algorithm 2], with its state under parameter names.

Our own, because `torch.optim` imports the compiler on construction: twice the time of `import
torch`. A test holds it to `torch.optim.AdamW`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dsv3data.training.config import OptimizerConfig

_FIRST, _SECOND, _COUNT = "first_moment.", "second_moment.", "steps"


class AdamW:
    """Matrices decay, one-dimensional weights (norms) do not.

    Moments are kept in fp32 or BF16 [§3.3.3] and updated in fp32.

    The router biases are buffers: no gradient and no decay ever reaches them.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
    ) -> None:
        self.config = config
        self.parameters = dict(named_parameters)
        self.first_moments = self._zeros()
        self.second_moments = self._zeros()
        self.n_steps = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move every parameter that has a gradient."""
        self.n_steps += 1
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self._update(name, parameter, parameter.grad, lr)

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def decay_of(self, parameter: Tensor) -> float:
        """Our choice, not published: norms are left alone."""
        return self.config.weight_decay if parameter.dim() >= 2 else 0.0

    def state(self) -> dict[str, Tensor]:
        """Flat tensors, for a checkpoint."""
        first = {_FIRST + name: moment for name, moment in self.first_moments.items()}
        second = {_SECOND + name: moment for name, moment in self.second_moments.items()}
        return {**first, **second, _COUNT: torch.tensor(self.n_steps)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `state`."""
        for name in self.parameters:
            self.first_moments[name].copy_(tensors[_FIRST + name])
            self.second_moments[name].copy_(tensors[_SECOND + name])
        self.n_steps = int(tensors[_COUNT])

    def _zeros(self) -> dict[str, Tensor]:
        kind = torch.bfloat16 if self.config.moments == "bf16" else None  # that of the weights
        return {name: torch.zeros_like(p.data, dtype=kind) for name, p in self.parameters.items()}

    def _update(self, name: str, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        config = self.config
        kept_first, kept_second = self.first_moments[name], self.second_moments[name]
        # Themselves, if they are of the parameter's kind.
        first, second = kept_first.to(parameter.dtype), kept_second.to(parameter.dtype)
        first.lerp_(gradient, 1 - config.beta1)
        second.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
        kept_first.copy_(first)
        kept_second.copy_(second)
        # Both moments start at 0; dividing by these makes them unbiased.
        first_share = 1 - config.beta1**self.n_steps
        second_share = 1 - config.beta2**self.n_steps
        spread = (second / second_share).sqrt_().add_(config.eps)
        parameter.mul_(1 - lr * self.decay_of(parameter))
        parameter.addcdiv_(first, spread, value=-lr / first_share)
