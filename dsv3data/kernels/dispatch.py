"""Which implementation runs: the kernels or cuBLAS on a Hopper GPU, the reference elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.kernels import reference
from dsv3data.kernels.choices import Choices, Way
from dsv3data.kernels.formats import Blocks, Rows, Rows12

HOPPER = (9, 0)
OLDEST = {"torch": (2, 11), "triton": (3, 6)}
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
    for package, oldest in OLDEST.items():
        version = _version(package) if find_spec(package) else "not installed"
        if _numbers(version) < oldest:
            raise EnvironmentFault(
                f"the FP8 kernels need {package} {'.'.join(map(str, oldest))} or newer",
                where=f"this Python environment: {package} {version}",
                effect="nothing was started",
                fix="pip install 'dsv3data[train,gpu]', or train in BF16 with --set precision=bf16",
            )


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 11) of "2.11.0+cu130"; () of words."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


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
    return _CHOICES.take(*ways_of_blocks(a, b, tile_experts, out_dtype))


def matmul_rows(a: Rows, b: Rows, starts_E1: Tensor) -> Tensor:
    """`reference.matmul_rows` by the fastest way on this device."""
    if not a.codes_RC.is_cuda:
        return reference.matmul_rows(a, b, starts_E1)
    return _CHOICES.take(*ways_of_rows(a, b, starts_E1))


def ways_of_blocks(
    a: Rows, b: Blocks, tile_experts: Tensor | None, out_dtype: torch.dtype
) -> tuple[str, dict[str, Way]]:
    """The name of the shape in the record, and the candidates on a GPU."""
    from dsv3data.kernels import library
    from dsv3data.kernels.device import launch

    ours = partial(launch.matmul_blocks, a, b, tile_experts=tile_experts, out_dtype=out_dtype)
    ways = _tiles(ours)
    if tile_experts is None and library.can_multiply_blocks(a, b, out_dtype):
        by_library = partial(library.matmul_blocks, a, b, out_dtype=out_dtype)
        ways["cublas"] = Way(run=by_library, same_bits=False)
    experts, _, k = b.codes_ERC.shape
    kind = "dense" if tile_experts is None else f"{experts} experts"
    return _shape(kind, a.n_rows, b.height, k, out_dtype, ways), ways


def ways_of_rows(a: Rows, b: Rows, starts_E1: Tensor) -> tuple[str, dict[str, Way]]:
    """The same for weight gradients."""
    from dsv3data.kernels import library
    from dsv3data.kernels.device import launch

    ways = _tiles(partial(launch.matmul_rows, a, b, starts_E1))
    experts = len(starts_E1) - 1
    if experts == 1 and library.can_multiply_rows(a, b):
        ways["cublas"] = Way(run=partial(library.matmul_rows, a, b), same_bits=False)
    kind = f"weight gradient, {experts} experts"
    return _shape(kind, a.codes_RC.shape[1], a.n_rows, b.n_rows, torch.float32, ways), ways


def _tiles(ours: Callable[..., Tensor]) -> dict[str, Way]:
    from dsv3data.kernels.device import launch

    return {tile.name: Way(run=partial(ours, tile=tile), same_bits=True) for tile in launch.TILES}


def _shape(
    kind: str, tokens: int, n: int, k: int, dtype: torch.dtype, ways: Mapping[str, Way]
) -> str:
    """A shape's name in the record. Token counts that differ little share a choice."""
    rounded = 1 << (tokens - 1).bit_length() if tokens else 0
    rivals = "with" if "cublas" in ways else "without"
    return f"{kind}: up to {rounded} tokens, {n} x {k}, {str(dtype)[6:]}, {rivals} cublas"


def remember_choices(path: Path) -> None:
    """From now on GEMMs take the ways written in this file; those of new shapes are added to it.

    Without a GPU nothing is ever chosen, and no file is written.

    Raises:
        IntegrityError: the file is damaged.
    """
    if torch.cuda.is_available():
        versions = [f"{name} {_version(name)}" for name in OLDEST if find_spec(name)]
        _CHOICES.keep_in(path, ", ".join([torch.cuda.get_device_name(), *versions]))


def _version(package: str) -> str:
    return str(import_module(package).__version__)


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


_CHOICES = Choices(milliseconds)
