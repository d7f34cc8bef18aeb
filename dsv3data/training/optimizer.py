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
        moved = [name for name, parameter in self.parameters.items() if parameter.grad is not None]
        if self.config.moments == "fp32":
            for decays in (True, False):
                self._update_in_one_pass(
                    [name for name in moved if (self.parameters[name].dim() >= 2) == decays], lr
                )
            return
        for name in moved:
            self._update(name, lr)

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

    def _update_in_one_pass(self, names: list[str], lr: float) -> None:
        """`_update` of parameters that decay alike, each number read and written once: a quarter of
        the time on a CPU."""
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        if not parameters:
            return
        counts = [
            parameter.new_tensor(self.n_steps, dtype=torch.float32) for parameter in parameters
        ]
        torch._fused_adamw_(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self.first_moments[name] for name in names],
            [self.second_moments[name] for name in names],
            [],
            counts,
            lr=lr,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            weight_decay=self.decay_of(parameters[0]),
            eps=self.config.eps,
            amsgrad=False,
            maximize=False,
        )
        # The operation does not count itself, and FP8 codes of weights are made anew by the count.
        torch.autograd.graph.increment_version(parameters)

    def _update(self, name: str, lr: float) -> None:
        """The algorithm as it is written, for moments that are kept in BF16."""
        config, parameter = self.config, self.parameters[name]
        gradient = parameter.grad
        assert gradient is not None
        first = self.first_moments[name].to(parameter.dtype)
        second = self.second_moments[name].to(parameter.dtype)
        first.lerp_(gradient, 1 - config.beta1)
        second.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
        self.first_moments[name].copy_(first)
        self.second_moments[name].copy_(second)
        # Both moments start at 0; dividing by these makes them unbiased.
        first_share = 1 - config.beta1**self.n_steps
        second_share = 1 - config.beta2**self.n_steps
        spread = (second / second_share).sqrt_().add_(config.eps)
        parameter.mul_(1 - lr * self.decay_of(parameter))
        parameter.addcdiv_(first, spread, value=-lr / first_share)
