"""Cheap functions that are made again in the backward pass, so that what they give is not kept.

DeepSeek-V3 does so with RMSNorm, the up-projections of MLA and the output of SwiGLU [§3.2.3,
§3.3.3]. Such a function is a region. Its output is needed in the backward pass by whoever reads it
(a linear layer for its weight gradient, attention for its scores), and there is saved. So a region
marks the memory of its output; while the model runs, a tensor that is saved for the backward pass
and lies in marked memory is replaced by a note that says which region makes it. The first reader in
the backward pass makes it again; the graph of that second run gives the region's own gradient. Each
region thus runs twice in all, and the numbers are bitwise those without.

`torch.utils.checkpoint` would not do: it forgets what is saved inside of a function, and these are
saved outside, by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])
_regions_forget: ContextVar[bool] = ContextVar("regions_forget", default=False)


@contextmanager
def forgetting_regions() -> Iterator[None]:
    """In here `remade` functions are regions; elsewhere, plain calls."""
    token = _regions_forget.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(kept_for_backward, given_to_backward):
            yield
    finally:
        _regions_forget.reset(token)


def remade(
    function: Callable[..., Outputs], *inputs: Tensor, weights: tuple[Tensor, ...] = ()
) -> Outputs:
    """function(*inputs), its outputs made again in the backward pass instead of kept.

    Args:
        function: gives the same bits for the same inputs; routing does not belong in one, since
            what it counts would be counted again.
        inputs: what is kept in place of the outputs.
        weights: parameters that it reads besides.
    """
    if not (_regions_forget.get() and torch.is_grad_enabled()):
        return function(*inputs)
    outputs = _Region.apply(function, len(inputs), *inputs, *weights)  # type: ignore[no-untyped-call]
    return cast("Outputs", outputs)


@dataclass(frozen=True, kw_only=True)
class Note:
    """Where a saved tensor will come from: a view of what a region gives."""

    maker: _Maker
    output: int
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int


def kept_for_backward(tensor: Tensor) -> Tensor | Note:
    """What is kept of a tensor that the graph saves: itself, or a note if a region makes it."""
    mark: tuple[_Maker, int] | None = getattr(tensor.untyped_storage(), "made_by", None)
    if mark is None:
        return tensor
    return Note(
        maker=mark[0],
        output=mark[1],
        shape=tensor.shape,
        strides=tensor.stride(),
        offset=int(tensor.storage_offset()),
    )


def given_to_backward(kept: Tensor | Note) -> Tensor:
    """The tensor that was saved."""
    if isinstance(kept, Tensor):
        return kept
    output = kept.maker.run().outputs[kept.output].detach()
    return output.as_strided(kept.shape, kept.strides, kept.offset)


@dataclass(frozen=True, kw_only=True)
class _SecondRun:
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]


class _Maker:
    """A region's second run, at most one until its gradient is taken."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self._run: _SecondRun | None = None

    def run(self) -> _SecondRun:
        if self._run is None:
            needed = self._ctx.needs_input_grad[2:]
            saved = self._ctx.saved_tensors
            inputs = [x.detach().requires_grad_(g) for x, g in zip(saved, needed, strict=False)]
            with torch.enable_grad():
                self._run = _SecondRun(
                    inputs=inputs, outputs=_as_tuple(self._ctx.function(*inputs))
                )
        return self._run

    def forget(self) -> None:
        self._run = None


class _Region(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], n_inputs: int, *tensors: Tensor) -> Any:
        ctx.function, ctx.weights = function, tensors[n_inputs:]
        ctx.save_for_backward(*tensors[:n_inputs])
        ctx.maker = _Maker(ctx)
        outputs = function(*tensors[:n_inputs])
        for number, output in enumerate(_as_tuple(outputs)):
            # Views of the output share its memory, and with it the mark.
            output.untyped_storage().made_by = (ctx.maker, number)  # type: ignore[attr-defined]
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        run = ctx.maker.run()
        wanted = [t for t in (*run.inputs, *ctx.weights) if t.requires_grad]
        made = iter(torch.autograd.grad(run.outputs, wanted, grads, allow_unused=True))
        ctx.maker.forget()
        found = (next(made) if t.requires_grad else None for t in (*run.inputs, *ctx.weights))
        return (None, None, *found)


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
