"""Check the FP8 kernels on a Hopper GPU, then time them beside BF16, cuBLAS and copies.

    python benchmarks/kernels.py SECTION --out FOLDER [--smoke]

Sections: checks, dense, grouped, quantise. Rivals take turns within a row, several times over; a
row has the median of each. `--smoke` runs tiny sizes on a CPU, in Triton's interpreter, to see that
the script itself works; its figures mean nothing. scripts/gpu.sh runs all.

Legend: M tokens, N output width, K input width, E experts, V visits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from dsv3data.kernels import library
from dsv3data.kernels.device import launch
from dsv3data.kernels.segments import segments_of
from gpu import Machine, Row, Way, run_section

# DeepSeek-V3's linear layers, N × K, and its experts' two matrices [§4.2].
DENSE = ((7168, 16384), (4096, 7168), (24576, 1536), (32768, 512), (2112, 7168))
EXPERTS = ((4096, 7168), (7168, 2048))
GROUPS = (8, 32, 64)
TOKENS, VISITS = 4096, 32_768


def dense(machine: Machine) -> Iterator[Row]:
    """GEMMs alone, operands quantised before. The input gradient is the forward's kernel."""
    for n, k in DENSE:
        yield from _dense_rows(machine, *(machine.shrink(size) for size in (TOKENS, n, k)))


def _dense_rows(machine: Machine, m: int, n: int, k: int) -> Iterator[Row]:
    x, grad, w = machine.normal(m, k), machine.normal(m, n), machine.normal(1, n, k)
    a, (b, _) = launch.quantise_rows(x), launch.quantise_blocks(w)
    low, flop, sizes = torch.bfloat16, 2 * m * n * k, {"m": m, "n": n, "k": k}
    ways = tiles(lambda tile: launch.matmul_blocks(a, b, out_dtype=low, tile=tile))
    ways["bf16"] = lambda: F.linear(x, w[0])
    if not machine.smoke and library.can_multiply_blocks(a, b, low):
        ways["cublas"] = lambda: library.matmul_blocks(a, b, out_dtype=low)
    yield gemm_row({"direction": "forward", **sizes}, flop, *machine.compare(ways))
    grad_columns, x_columns = launch.quantise_columns(grad), launch.quantise_columns(x)
    starts = torch.tensor(
        [0, grad_columns.codes_RC.shape[1]], dtype=torch.int32, device=machine.device
    )
    ways = tiles(lambda tile: launch.matmul_rows(grad_columns, x_columns, starts, tile=tile))
    ways["bf16"] = lambda: grad.T @ x
    if not machine.smoke and library.can_multiply_rows(grad_columns, x_columns):
        ways["cublas"] = lambda: library.matmul_rows(grad_columns, x_columns)
    yield gemm_row({"direction": "weight gradient", **sizes}, flop, *machine.compare(ways))


def tiles(multiply: Callable[[launch.Tile], Any]) -> dict[str, Way]:
    """Our kernel by each of its tiles."""
    return {tile.name: lambda tile=tile: multiply(tile) for tile in launch.TILES}


def grouped(machine: Machine) -> Iterator[Row]:
    """All three directions of the experts' GEMMs, even load; padding counts as no work."""
    for n, k in EXPERTS:
        for experts in GROUPS:
            sizes = [machine.shrink(size) for size in (n, k, VISITS)]
            yield from _grouped_rows(machine, *sizes, min(experts, 3) if machine.smoke else experts)


def _grouped_rows(machine: Machine, n: int, k: int, visits: int, experts: int) -> Iterator[Row]:
    chosen = torch.arange(visits, device=machine.device).view(-1, 1) % experts
    segments, plain = segments_of(chosen, experts), segments_of(chosen, experts, tile=1)
    x, grad = machine.normal(visits, k), machine.normal(visits, n)
    w = machine.normal(experts, n, k)
    source, of_tiles, ends = segments.token_of_slot_P, segments.tile_experts, plain.starts_E1[1:]
    straight, turned = launch.quantise_blocks(w)
    x_rows = launch.quantise_rows(x, source_P=source)
    grad_rows = launch.quantise_rows(grad, source_P=source)
    x_columns = launch.quantise_columns(x, source_P=source)
    grad_columns = launch.quantise_columns(grad, source_P=source)
    low = torch.bfloat16
    directions: dict[str, tuple[Way, Callable[[launch.Tile], Any]]] = {
        "forward": (
            lambda: F.grouped_mm(x, w.transpose(1, 2), offs=ends),
            lambda tile: launch.matmul_blocks(
                x_rows, straight, tile_experts=of_tiles, out_dtype=low, tile=tile
            ),
        ),
        "input gradient": (
            lambda: F.grouped_mm(grad, w, offs=ends),
            lambda tile: launch.matmul_blocks(
                grad_rows, turned, tile_experts=of_tiles, out_dtype=low, tile=tile
            ),
        ),
        "weight gradient": (
            lambda: F.grouped_mm(grad.T, x, offs=ends),
            lambda tile: launch.matmul_rows(grad_columns, x_columns, segments.starts_E1, tile=tile),
        ),
    }
    for direction, (bf16, ours) in directions.items():
        ways = {"bf16": bf16, **tiles(ours)}
        sizes = {"direction": direction, "experts": experts, "visits": visits, "n": n, "k": k}
        yield gemm_row(sizes, 2 * visits * n * k, *machine.compare(ways))


def gemm_row(
    sizes: Row, flop: int, milliseconds: dict[str, float], left_out: dict[str, str]
) -> Row:
    tflops = {name: flop / ms / 1e9 for name, ms in milliseconds.items()}
    ours = max((value for name, value in tflops.items() if name.startswith("triton")), default=0.0)
    return {
        **sizes,
        "milliseconds": milliseconds,
        "left_out": left_out,
        "tflop_per_s": tflops,
        "triton_tflop_per_s": ours,
        "triton_over_bf16": ours / tflops["bf16"] if "bf16" in tflops else None,
        "dispatch_tflop_per_s": max(ours, tflops.get("cublas", 0.0)),
    }


def quantise(machine: Machine) -> Iterator[Row]:
    """Bytes that must move, over time, beside a copy that moves as many."""
    rows, columns, top_k = machine.shrink(16_384), machine.shrink(7168), 8
    x = machine.normal(rows, columns)
    w = torch.randn(4, columns, machine.shrink(4096), device=machine.device)
    h, act = machine.normal(rows, 2 * columns), machine.normal(rows, columns)
    gain, weights = torch.ones(columns, device=x.device), torch.ones(rows, device=x.device)
    q, h_q = (launch.quantise_rows(y, power_of_two=True) for y in (x, h))
    packed = launch.pack_rows(x)
    slots = torch.arange(rows, device=x.device).view(-1, top_k)
    values = x.numel()
    ways: dict[str, tuple[int, Way]] = {
        "rows": (3 * values, lambda: launch.quantise_rows(x)),
        "gathered rows": (3 * values, lambda: launch.quantise_rows(x, source_P=slots.flatten())),
        "columns": (3 * values, lambda: launch.quantise_columns(x)),
        "retile": (2 * values, lambda: launch.retile(q)),
        "pack rows": (7 * values // 2, lambda: launch.pack_rows(x)),
        "retile packed": (5 * values // 2, lambda: launch.retile(packed)),
        "blocks": (6 * w.numel(), lambda: launch.quantise_blocks(w)),
        "swiglu": (5 * values, lambda: launch.swiglu_quantise(h, weights)),
        "swiglu backward": (10 * values, lambda: launch.swiglu_backward(h_q, act, weights)),
        "rmsnorm": (3 * values, lambda: launch.rmsnorm_quantise(x, gain, 1e-6)),
        "combine": (2 * values + 2 * values // top_k, lambda: launch.combine(x, slots)),
    }
    for name, (n_bytes, way) in ways.items():
        half = torch.empty(n_bytes // 2, dtype=torch.uint8, device=x.device)
        other = torch.empty_like(half)
        times, left_out = machine.compare(
            {"kernel": way, "copy": lambda half=half, other=other: other.copy_(half)}
        )
        yield {
            "kernel": name,
            "bytes": n_bytes,
            "milliseconds": times,
            "left_out": left_out,
            "gb_per_s": {key: n_bytes / ms / 1e6 for key, ms in times.items()},
            "share_of_copy": times["copy"] / times["kernel"] if not left_out else None,
        }


def checks(machine: Machine) -> Iterator[Row]:
    """Every check of tests/helpers/kernel_checks.py, each in a process of its own."""
    from kernel_checks import checks_apart

    device, seeds, at_once = ("cpu", [0], 2) if machine.smoke else ("cuda", [0, 1], 16)
    failed, limit_s = 0, 0.7 * machine.seconds_left
    for record in checks_apart(device, seeds, at_once=at_once, limit_s=limit_s):
        failed += not record["passed"]
        yield record
    if failed:
        raise SystemExit(f"{failed} checks failed")


SECTIONS = {"checks": checks, "dense": dense, "grouped": grouped, "quantise": quantise}


if __name__ == "__main__":
    run_section(SECTIONS, "Check and time the FP8 kernels.")
