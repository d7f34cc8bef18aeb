"""Which implementation runs: the kernels or cuBLAS on a Hopper GPU, the reference elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, partial
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.kernels import reference
from dsv3data.kernels.formats import Blocks, Rows, Rows12

HOPPER = (9, 0)
_WARM, _TIMED = 2, 5  # runs of a candidate


class Operations(Protocol):
    """What `reference.py` and `device/launch.py` both are; the former documents it."""

    def quantise_rows(
        self, x_RC: Tensor, *, power_of_two: bool = ..., source_P: Tensor | None = ...
    ) -> Rows: ...
    def quantise_columns(
        self, x_RC: Tensor, *, power_of_two: bool = ..., source_P: Tensor | None = ...
    ) -> Rows: ...
    def pack_rows(self, x_RC: Tensor) -> Rows12: ...
    def retile(self, q: Rows | Rows12, *, source_P: Tensor | None = ...) -> Rows: ...
    def quantise_blocks(self, w_ERC: Tensor) -> tuple[Blocks, Blocks]: ...
    def swiglu_quantise(self, h_PF2: Tensor, weights_P: Tensor | None = ...) -> Rows: ...
    def swiglu_backward(
        self, h: Rows, grad_act_PF: Tensor, weights_P: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def rmsnorm_quantise(self, x_RC: Tensor, weight_C: Tensor, eps: float) -> Rows: ...
    def combine(self, x_PC: Tensor, slots_TK: Tensor) -> Tensor: ...


def operations(device: torch.device) -> Operations:
    """The implementation for tensors on this device.

    Raises:
        EnvironmentFault: a GPU that has no FP8 tensor cores of Hopper's kind, or no Triton.
    """
    if device.type != "cuda":
        return reference
    require_hopper(device)
    from dsv3data.kernels.device import launch

    return launch


@cache
def require_hopper(device: torch.device) -> None:
    """Refuse what the kernels were not written for."""
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) != HOPPER:
        raise EnvironmentFault(
            f"FP8 training needs a Hopper GPU (sm_90); this one is sm_{major}{minor}",
            where=torch.cuda.get_device_name(device),
            effect="nothing was started",
            fix="train in BF16 with --set precision=bf16",
        )
    if find_spec("triton") is None:
        raise EnvironmentFault(
            "the FP8 kernels need Triton, not installed here",
            where="this Python environment",
            effect="nothing was started",
            fix="pip install 'dsv3data[gpu]', or train in BF16 with --set precision=bf16",
        )


def backend_of(device: torch.device) -> str:
    """One line for people: what FP8 means on this device."""
    if device.type != "cuda":
        return "FP8 emulated in fp32: the numbers of the real thing, none of its speed"
    require_hopper(device)
    return "FP8 on Hopper's tensor cores: GEMMs by cuBLAS or Triton, whichever was faster here"


# GEMMs: several ways each, chosen by a stopwatch.


def matmul_blocks(
    a: Rows, b: Blocks, *, tile_experts: Tensor | None = None, out_dtype: torch.dtype
) -> Tensor:
    """`reference.matmul_blocks` by the fastest way on this device."""
    if not a.codes_RC.is_cuda:
        return reference.matmul_blocks(a, b, tile_experts=tile_experts, out_dtype=out_dtype)
    from dsv3data.kernels import library
    from dsv3data.kernels.device import launch

    ours = partial(launch.matmul_blocks, a, b, tile_experts=tile_experts, out_dtype=out_dtype)
    ways: list[Callable[[], Tensor]] = [partial(ours, tile=tile) for tile in launch.TILES]
    if tile_experts is None and library.can_multiply(a, b, out_dtype):
        ways.append(partial(library.matmul_blocks, a, b, out_dtype=out_dtype))
    shape = (_rounded(a.n_rows), *b.codes_ERC.shape, tile_experts is None, out_dtype, len(ways))
    return _fastest(("blocks", *shape), ways)


def matmul_rows(a: Rows, b: Rows, starts_E1: Tensor) -> Tensor:
    """`reference.matmul_rows` by the fastest way on this device."""
    if not a.codes_RC.is_cuda:
        return reference.matmul_rows(a, b, starts_E1)
    from dsv3data.kernels.device import launch

    ours = partial(launch.matmul_rows, a, b, starts_E1)
    ways: list[Callable[[], Tensor]] = [partial(ours, tile=tile) for tile in launch.TILES]
    shape = (a.n_rows, b.n_rows, _rounded(a.codes_RC.shape[1]), len(starts_E1))
    return _fastest(("rows", *shape), ways)


_chosen: dict[Hashable, int] = {}


def _fastest(shape: Hashable, ways: list[Callable[[], Tensor]]) -> Tensor:
    """Run the way that was fastest for this shape; time them all when it is new.

    All ways promote every 128 of K, but add in orders of their own, so the choice is kept for the
    life of the process; two runs may differ in last bits where their choices do.
    """
    if shape not in _chosen:
        times = [milliseconds(way) for way in ways]
        _chosen[shape] = times.index(min(times))
    return ways[_chosen[shape]]()


def milliseconds(way: Callable[[], object], *, warm: int = _WARM, timed: int = _TIMED) -> float:
    """Mean time of a call on the current GPU stream."""
    for _ in range(warm):
        way()
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(timed):
        way()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / timed


def _rounded(rows: int) -> int:
    """Token counts that differ little share a choice."""
    return 1 << (rows - 1).bit_length() if rows else 0
