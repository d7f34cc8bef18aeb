"""Each kernel compiled for Hopper: tensor cores in E4M3, TMA, fresh accumulators, no spills.

Runs without a GPU; ptxas comes with Triton.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cross_compile import Compiled, compile_for_hopper
from dsv3data.kernels.device import gemm, quantise
from dsv3data.kernels.device.launch import COLUMNS, FEW_ROWS, ROWS, TILES, Tile

# The bound on bytes a thread spills, for every kernel as it is launched.
LARGEST_SPILL = 0
SHARED_BYTES = 227 << 10  # of one of Hopper's processors
REGISTERS = 65_536
WGMMA = r"wgmma\.mma_async\S*\.e4m3\.e4m3"


def codes(rows: int) -> str:
    return f"tensordesc<fp8e4nv[{rows}, 128]>"


def compiled_gemm(kind: str, tile: Tile, folder: Path) -> Compiled:
    m, n = tile.block_m, tile.block_n
    kernel: Any
    if kind == "weight gradient":
        kernel, constants = gemm.matmul_rows_kernel, {}
        types = {
            "a_MP": codes(m), "b_NP": codes(n), "a_scales_GM": "*fp32", "b_scales_GN": "*fp32",
            "starts_E1": "*i32", "out_EMN": f"tensordesc<fp32[1, {m}, {n}]>",
            "M": "i32", "N": "i32", "n_experts": "i32",
        }  # fmt: skip
    else:
        kernel, constants = gemm.matmul_blocks_kernel, {"GROUPED": kind == "grouped"}
        types = {
            "a_MK": codes(m), "b_ENK": codes(n), "a_scales_GM": "*fp32", "b_scales_EnG": "*fp32",
            "tile_experts": "*i32", "out_MN": f"tensordesc<bf16[{m}, {n}]>",
            "M": "i32", "N": "i32", "n_groups": "i32", "whole_n": "i32",
        }  # fmt: skip
    constants |= {
        "BLOCK_M": m, "BLOCK_N": n, "BAND": tile.band, "SPECIALISED": tile.specialised,
    }  # fmt: skip
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return compile_for_hopper(kernel, types, constants, options, folder)


@pytest.mark.parametrize("kind", ["dense", "grouped", "weight gradient"])
@pytest.mark.parametrize("number", range(len(TILES)))
def test_gemms_use_fp8_tensor_cores_and_fit_the_processor(
    kind: str, number: int, tmp_path: Path
) -> None:
    tile = TILES[number]
    compiled = compiled_gemm(kind, tile, tmp_path)
    assert compiled.counts(WGMMA) >= 4  # 128 of K, 32 at a time
    assert compiled.counts(r"cp\.async\.bulk\.tensor\.2d\.shared") >= 2  # operands
    assert compiled.counts(r"cp\.async\.bulk\.tensor\.\dd\.global") >= 1  # the result
    assert compiled.spilled_bytes <= LARGEST_SPILL
    assert compiled.scratch_bytes == 0
    assert compiled.shared_bytes * tile.per_sm <= SHARED_BYTES
    assert compiled.registers * compiled.threads * tile.per_sm <= REGISTERS
    assert (compiled.counts("setmaxnreg") > 0) == tile.specialised
    # A product meets its scales and the sum in the same instructions in every tile: the same bits.
    values = tile.block_m * tile.block_n // (32 * tile.warps) * (1 + tile.specialised)
    assert compiled.counts(r"fma\.rn\.f32") == values
    assert compiled.counts(r"add\S*\.f32") == 0


def test_every_128_of_k_start_from_zero(tmp_path: Path) -> None:
    """The first product of each four ignores its accumulator, or promotion would not happen."""
    ptx = compiled_gemm("dense", TILES[0], tmp_path).ptx
    calls = re.findall(r"wgmma\.mma_async[^;]*?,\s*(\S+),\s*1,\s*1;", ptx)
    assert len(calls) == 4
    predicates = [_constant(ptx, name) for name in calls]
    assert predicates == [0, 1, 1, 1]


def _constant(ptx: str, name: str) -> int:
    """0 or 1 of a scale-d predicate, through the instructions that set it."""
    if name in ("0", "1"):
        return int(name)
    (how,) = re.findall(rf"(?:setp\S*|mov\S*)\s+{re.escape(name)},\s*([^;]+);", ptx)
    found = re.fullmatch(r"(-?\d+),\s*0", how) or re.fullmatch(r"(-?\d+)", how.strip())
    assert found, how
    return int(found[1] != "0")


SIZES = {"n_rows": "i32", "n_columns": "i32"}
STRIDES = {"x_stride": "i32", "codes_stride": "i32"}
OUT = {"codes_RC": "*u8", "scales_GR": "*fp32"}
MEMORY_BOUND: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "quantise_rows_kernel": (
        {"x_RC": "*bf16", "source_P": "*i64", "codes_PC": "*u8", "scales_GP": "*fp32"}
        | SIZES | STRIDES,
        {"GATHER": True, "POWER_OF_TWO": True, "ROWS": ROWS},
    ),
    "quantise_columns_kernel": (
        {"x_RC": "*u8", "x_scales_GR": "*fp32", "source_P": "*i64", "codes_CP": "*u8"}
        | {"scales_gC": "*fp32", "n_x_rows": "i32"} | SIZES | STRIDES,
        {"GATHER": True, "BITS": 12, "POWER_OF_TWO": True, "COLUMNS": COLUMNS},
    ),
    "quantise_blocks_kernel": (
        {"w_ERC": "*fp32", "codes_ERC": "*u8", "codes_ECR": "*u8"}
        | {"scales_Erc": "*fp32", "scales_Ecr": "*fp32", "whole_rows": "i32"}
        | {"whole_columns": "i32"} | SIZES,
        {},
    ),
    "swiglu_quantise_kernel": (
        {"h_RC2": "*bf16", "weights_R": "*fp32", "h_stride": "i32", "codes_stride": "i32"}
        | OUT | SIZES,
        {"WEIGHTED": True, "ROWS": ROWS},
    ),
    "swiglu_backward_kernel": (
        {"h_RC2": "*u8", "h_scales_GR": "*fp32", "grad_act_RC": "*bf16", "weights_R": "*fp32"}
        | {"grad_h_RC2": "*bf16", "act_RC": "*bf16", "grad_weights_R": "*fp32"}
        | {"h_stride": "i32", "grad_stride": "i32"} | SIZES,
        {"ROWS": FEW_ROWS},
    ),
    "rmsnorm_quantise_kernel": (
        {"x_RC": "*bf16", "weight_C": "*fp32", "eps": "fp32"} | OUT | SIZES | STRIDES,
        {"GROUPS": 64},
    ),
    "pack_rows_kernel": (
        {"x_RC": "*bf16", "packed_RB": "*u8", "scales_GR": "*fp32", "packed_stride": "i32"}
        | {"x_stride": "i32"} | SIZES,
        {"ROWS": ROWS},
    ),
    "combine_kernel": (
        {"x_PC": "*bf16", "slots_TK": "*i64", "out_TC": "*bf16", "n_tokens": "i32"}
        | {"n_columns": "i32", "x_stride": "i32"},
        {"TOP_K": 8, "ROWS": FEW_ROWS, "COLUMNS": 512},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY_BOUND)
def test_quantisation_kernels_use_the_machines_own_cast(name: str, tmp_path: Path) -> None:
    types, constants = MEMORY_BOUND[name]
    kernel = getattr(quantise, name)
    if "INTERPRETED" in kernel.arg_names:
        constants = constants | {"INTERPRETED": False}
    warps = 8 if name in ("quantise_blocks_kernel", "rmsnorm_quantise_kernel") else 4
    compiled = compile_for_hopper(kernel, types, constants, {"num_warps": warps}, tmp_path)
    if "quantise" in name:
        assert compiled.counts(r"cvt\.rn\.satfinite\.e4m3x2\.f32") >= 1
    assert compiled.counts(r"ld\.global\.\S*v[24]") >= 1  # wide loads
    assert compiled.spilled_bytes <= LARGEST_SPILL
    assert compiled.scratch_bytes == 0


def test_no_kernel_is_left_out() -> None:
    kernels = {name for name in vars(quantise) if name.endswith("_kernel")}
    assert kernels == set(MEMORY_BOUND)
    assert {n for n in vars(gemm) if n.endswith("_kernel")} == {
        "matmul_blocks_kernel",
        "matmul_rows_kernel",
    }
