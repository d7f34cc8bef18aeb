"""Every kernel against its twin in `reference.py`: on a GPU, or in Triton's interpreter.

    TRITON_INTERPRET=1 python tests/helpers/kernel_checks.py cpu [SEED …]
    python tests/helpers/kernel_checks.py cuda [SEED …] [--small] [--only CHECK] [--tile NUMBER]

Prints a line of JSON per check and seed; exits 1 if one failed. Needs torch and Triton alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from dsv3data.kernels import reference
from dsv3data.kernels.cache import WeightCodes
from dsv3data.kernels.choices import Choices
from dsv3data.kernels.device import launch
from dsv3data.kernels.dispatch import ways_of_blocks, ways_of_rows
from dsv3data.kernels.experts import fp8_experts
from dsv3data.kernels.formats import (
    E4M3,
    E5M6,
    Blocks,
    Rows,
    Rows12,
    e5m6_bytes,
    e5m6_values,
    round_to,
    to_e4m3,
)
from dsv3data.kernels.linear import fp8_linear, fp8_norm_linear, fp8_swiglu_linear
from dsv3data.kernels.segments import segments_of

# A sum of fp32 in another order; exp and sigmoid of another library.
SAME_SUM, SAME_FUNCTION = 2e-5, 1e-2
# Hopper adds 32 products and the sum so far with 12 or 13 bits after the point, cut off: 1e-4 to
# 3e-4 of a Gaussian product, by simulation. What a wrong tile or scale does is far above this.
HOPPER_SUM = 2e-3
Record = dict[str, Any]


class Draw:
    """Random matrices of awkward sizes on one device."""

    def __init__(self, device: str, seed: int, *, largest: int) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.largest = largest

    def size(self, largest: int | None = None) -> int:
        return int(torch.randint(1, (largest or self.largest) + 1, (), generator=self.generator))

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(0, below, shape, generator=self.generator).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(self.device)

    def rough(self, rows: int, columns: int) -> Tensor:
        """Magnitudes over many binades, and every special tile."""
        x = self.normal(rows, columns) * torch.exp2(6 * self.normal(rows, columns))
        specials = (0.0, 1e-42, -3e-39, 448.0, 3e38, float("nan"), float("inf"))
        for row, value in zip(range(rows), specials, strict=False):
            x[row, : 1 + columns // 2] = value
        return x

    def sources(self, rows: int) -> Tensor:
        return self.integers(rows + 1, self.size()) - 1


def same_codes(found: Rows | Blocks, expected: Rows | Blocks, *, share: float = 0.0) -> None:
    """Equal codes, except for a share that rounding of a function's last bit may move."""
    if isinstance(found, Rows) and isinstance(expected, Rows):
        pairs = (found.codes_RC, expected.codes_RC), (found.scales_GR, expected.scales_GR)
        assert found.width == expected.width
    else:
        assert isinstance(found, Blocks)
        assert isinstance(expected, Blocks)
        pairs = (found.codes_ERC, expected.codes_ERC), (found.scales_Erg, expected.scales_Erg)
        assert (found.height, found.width) == (expected.height, expected.width)
    (codes, others), (scales, other_scales) = pairs
    assert codes.shape == others.shape
    assert scales.shape == other_scales.shape
    differing = int((codes.view(torch.uint8) != others.view(torch.uint8)).sum())
    assert differing <= share * codes.numel(), f"{differing} of {codes.numel()} codes differ"
    torch.testing.assert_close(scales, other_scales, rtol=share, atol=0, equal_nan=True)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    size = expected.double().nan_to_num().norm()
    torch.testing.assert_close(found.isnan(), expected.isnan())
    distance = (found.double() - expected.double()).nan_to_num().norm()
    assert distance <= tolerance * size, f"relative distance {float(distance / size):.2e}"


def same_product(found: Tensor, expected: Tensor) -> None:
    close(found, expected, HOPPER_SUM if found.is_cuda else SAME_SUM)


def same_bits(found: Tensor, expected: Tensor) -> None:
    """Tiles differ in speed alone; the interpreter's products are numpy's, whose order varies."""
    if found.is_cuda:
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


def check_quantise_rows(draw: Draw) -> None:
    x = draw.rough(draw.size(), draw.size(300))
    for power_of_two in (False, True):
        for source in (None, draw.sources(len(x))):
            arguments = {"power_of_two": power_of_two, "source_P": source}
            found = launch.quantise_rows(x, **arguments)
            same_codes(found, reference.quantise_rows(x, **arguments))


def check_quantise_rows_of_other_layouts(draw: Draw) -> None:
    x = draw.normal(draw.size(), 2 * draw.size(200))
    for view in (x.T, x[::2], x[:, ::2], x[:, 1:], x.bfloat16()):
        same_codes(launch.quantise_rows(view), reference.quantise_rows(view))


def check_quantise_columns(draw: Draw) -> None:
    x = draw.rough(draw.size(300), draw.size(100))
    for source in (None, draw.sources(len(x))):
        for power_of_two in (False, True):
            arguments = {"power_of_two": power_of_two, "source_P": source}
            found = launch.quantise_columns(x, **arguments)
            same_codes(found, reference.quantise_columns(x, **arguments))


def check_retile(draw: Draw) -> None:
    x = draw.rough(draw.size(300), draw.size(200))
    kept: tuple[Rows | Rows12, ...] = (
        reference.quantise_rows(x, power_of_two=True),
        reference.pack_rows(x),
    )
    for q in kept:
        for source in (None, draw.sources(len(x))):
            same_codes(launch.retile(q, source_P=source), reference.retile(q, source_P=source))


def check_pack_rows(draw: Draw) -> None:
    for x in (draw.rough(draw.size(), draw.size(300)), draw.normal(draw.size(), 130).T):
        found, expected = launch.pack_rows(x), reference.pack_rows(x)
        assert found.width == expected.width
        assert torch.equal(found.packed_RB, expected.packed_RB)
        torch.testing.assert_close(
            found.scales_GR, expected.scales_GR, rtol=0, atol=0, equal_nan=True
        )


def check_quantise_blocks(draw: Draw) -> None:
    w = draw.normal(2, draw.size(200), draw.size(200))
    w[0, 0, 0], w[1] = float("nan"), w[1] * 1e-40
    pairs = zip(launch.quantise_blocks(w), reference.quantise_blocks(w), strict=True)
    for found, expected in pairs:
        same_codes(found, expected)


def check_swiglu_quantise(draw: Draw) -> None:
    rows, width = draw.size(), draw.size(200)
    h, weights = draw.normal(rows, 2 * width), draw.normal(rows)
    for chosen in (None, weights):
        found = launch.swiglu_quantise(h, chosen)
        same_codes(found, reference.swiglu_quantise(h, chosen), share=SAME_FUNCTION)


def check_swiglu_backward(draw: Draw) -> None:
    rows, width = draw.size(), draw.size(200)
    h = reference.quantise_rows(draw.normal(rows, 2 * width), power_of_two=True)
    arguments = (draw.normal(rows, width), draw.normal(rows))
    found = launch.swiglu_backward(h, *arguments)
    for one, other in zip(found, reference.swiglu_backward(h, *arguments), strict=True):
        close(one, other, SAME_SUM)


def check_rmsnorm_quantise(draw: Draw) -> None:
    x, weight = draw.normal(draw.size(), width := draw.size(300)), draw.normal(width)
    found = launch.rmsnorm_quantise(x, weight, 1e-6)
    same_codes(found, reference.rmsnorm_quantise(x, weight, 1e-6), share=SAME_FUNCTION)


def check_combine(draw: Draw) -> None:
    x = draw.normal(draw.size(), draw.size(600))
    slots = draw.integers(len(x), draw.size(), 3)
    assert torch.equal(launch.combine(x, slots), reference.combine(x, slots))


def check_matmul_blocks(draw: Draw) -> None:
    k, n = draw.size(300), draw.size(200)
    x = draw.normal(draw.size(200), k)
    x[0, 0] = float("nan")
    a, (b, turned) = reference.quantise_rows(x), reference.quantise_blocks(draw.normal(1, n, k))
    back = reference.quantise_rows(draw.normal(len(x), n))
    for left, right in ((a, b), (back, turned)):
        expected = reference.matmul_blocks(left, right, out_dtype=torch.float32)
        found = [
            launch.matmul_blocks(left, right, out_dtype=torch.float32, tile=tile)
            for tile in launch.TILES
        ]
        for one in found:
            same_product(one, expected)
            same_bits(one, found[0])


def check_grouped(draw: Draw) -> None:
    """Forward, input gradient and weight gradient, for even and very uneven routings."""
    d, f, experts, top_k = draw.size(200), draw.size(200), 5, 2
    tokens = draw.size()
    even = draw.integers(experts, tokens, top_k)
    for chosen in (even, torch.full_like(even, 3), even.clamp(min=2)):
        segments = segments_of(chosen, experts)
        x, grad = draw.normal(tokens, d), draw.normal(tokens, f)
        source = segments.token_of_slot_P
        a = reference.quantise_rows(x, source_P=source)
        back = reference.quantise_rows(grad, source_P=source)
        straight, turned = reference.quantise_blocks(draw.normal(experts, f, d))
        for tile in launch.TILES[:3]:
            for left, right in ((a, straight), (back, turned)):
                arguments = {"tile_experts": segments.tile_experts, "out_dtype": torch.float32}
                found = launch.matmul_blocks(left, right, **arguments, tile=tile)
                same_product(found, reference.matmul_blocks(left, right, **arguments))
            columns = [reference.quantise_columns(y, source_P=source) for y in (grad, x)]
            found = launch.matmul_rows(*columns, segments.starts_E1, tile=tile)
            same_product(found, reference.matmul_rows(*columns, segments.starts_E1))


def check_large(draw: Draw) -> None:
    """So large on a GPU that every program of a GEMM takes several tiles, one after the other."""
    m, n, k = (draw.largest**2 // 40 + draw.size(100) for _ in range(3))
    x, grad = draw.normal(m, k), draw.normal(m, n)
    experts = 3
    segments = segments_of(draw.integers(experts, m, 1), experts)
    source, starts = segments.token_of_slot_P, segments.starts_E1
    one = (reference.quantise_rows(x), reference.quantise_blocks(draw.normal(1, n, k))[0], None)
    several = (
        reference.quantise_rows(x, source_P=source),
        reference.quantise_blocks(draw.normal(experts, n, k))[0],
        segments.tile_experts,
    )
    columns = [reference.quantise_columns(y, source_P=source) for y in (grad, x)]
    for a, b, of_tiles in (one, several):
        arguments = {"tile_experts": of_tiles, "out_dtype": torch.float32}
        expected = reference.matmul_blocks(a, b, **arguments)
        for tile in launch.TILES:
            same_product(launch.matmul_blocks(a, b, **arguments, tile=tile), expected)
    expected = reference.matmul_rows(*columns, starts)
    for tile in launch.TILES:
        same_product(launch.matmul_rows(*columns, starts, tile=tile), expected)


def check_no_rows(draw: Draw) -> None:
    x = draw.normal(0, 130)
    same_codes(launch.quantise_rows(x), reference.quantise_rows(x))
    columns = launch.quantise_columns(x)
    weights, _ = launch.quantise_blocks(draw.normal(1, 7, 130))
    out = launch.matmul_blocks(launch.quantise_rows(x), weights, out_dtype=torch.float32)
    assert out.shape == (0, 7)
    starts = torch.zeros(2, dtype=torch.int32, device=draw.device)
    assert not launch.matmul_rows(columns, columns, starts).any()


def check_ways(draw: Draw) -> None:
    """All ways of a dense GEMM are tried and the last one taken: on a GPU cuBLAS."""
    tokens, n, k = (16 * draw.size(5) for _ in range(3))
    x, grad = draw.normal(tokens, k), draw.normal(tokens, n)
    a, (b, _) = reference.quantise_rows(x), reference.quantise_blocks(draw.normal(1, n, k))
    columns = [reference.quantise_columns(y) for y in (grad, x)]
    starts = torch.tensor([0, columns[0].codes_RC.shape[1]], dtype=torch.int32).to(draw.device)
    low = torch.bfloat16
    pairs = (
        (ways_of_blocks(a, b, None, low), reference.matmul_blocks(a, b, out_dtype=low)),
        (ways_of_rows(*columns, starts), reference.matmul_rows(*columns, starts)),
    )
    for (shape, ways), expected in pairs:
        last = list(ways.values())[-1].run
        choices = Choices(lambda way, last=last: float(way is not last))
        close(choices.take(shape, ways), expected, SAME_FUNCTION)


def check_layers(draw: Draw) -> None:
    """Every kind of layer with all gradients: this device against the CPU."""
    d, f, experts, tokens = 8 * draw.size(20), 8 * draw.size(20), 4, draw.size()
    chosen = draw.integers(experts, tokens, 2)
    tensors = (
        draw.normal(tokens, d),
        draw.normal(tokens, 2).sigmoid(),
        draw.normal(experts, 2 * f, d) / d**0.5,
        draw.normal(experts, d, f) / f**0.5,
        draw.normal(d, d),
        draw.normal(d, d),
        draw.normal(d),
    )
    results = []
    for device in (draw.device, "cpu"):
        leaves = [t.to(device).requires_grad_() for t in tensors]
        x, weights, up, down, w, side, gain = leaves
        codes = (WeightCodes(), WeightCodes())
        y = fp8_experts(x, chosen.to(device), weights, up, down, codes)
        z = fp8_linear(y, w, codes=WeightCodes(), keep_input="e5m6")
        z = fp8_norm_linear(z, gain, 1e-6, side, w, codes=WeightCodes())
        z = fp8_swiglu_linear(z[:, : 2 * d], side.T, codes=WeightCodes())
        grads = torch.autograd.grad(z, leaves, torch.ones_like(z))
        results.append([t.detach().cpu() for t in (z, *grads)])
    for found, expected in zip(*results, strict=True):
        close(found, expected, 5 * SAME_FUNCTION)


def check_casts(draw: Draw) -> None:
    """The device's own cast, and both formats, against their definition."""
    x = (draw.normal(500, 128) * torch.exp2(4 * draw.normal(500, 128))).clamp(-500, 500)
    assert torch.equal(to_e4m3(x).float(), round_to(x, E4M3))
    assert torch.equal(e5m6_values(e5m6_bytes(x)), round_to(x, E5M6))


# What rests on the cut of a GEMM.
GEMM_CHECKS: tuple[Callable[[Draw], None], ...] = (
    check_matmul_blocks,
    check_grouped,
    check_large,
    check_ways,
    check_layers,
)
CHECKS: tuple[Callable[[Draw], None], ...] = (
    check_casts,
    check_quantise_rows,
    check_quantise_rows_of_other_layouts,
    check_quantise_columns,
    check_pack_rows,
    check_retile,
    check_quantise_blocks,
    check_swiglu_quantise,
    check_swiglu_backward,
    check_rmsnorm_quantise,
    check_combine,
    check_no_rows,
    *GEMM_CHECKS,
)


def checks_apart(
    device: str, seeds: Sequence[int], *, at_once: int, limit_s: float
) -> Iterator[Record]:
    """A process for all GEMMs with each tile alone, and for each check with all tiles: one that
    hangs, or breaks the GPU's context, takes no other with it. What has not ended after `limit_s`
    is ended and has failed."""
    alone = [(["--tile", str(n)], tile.name, GEMM_CHECKS) for n, tile in enumerate(launch.TILES)]
    together = [(["--only", check.__name__], None, (check,)) for check in reversed(CHECKS)]

    def run(part: tuple[list[str], str | None, Sequence[Callable[[Draw], None]]]) -> list[Record]:
        options, tile, checks = part
        output, end = _in_a_process([device, *map(str, seeds), *options], limit_s)
        records = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
        due = [(check.__name__, seed) for seed in seeds for check in checks]
        for check, seed in due[len(records) :][:1]:
            record = {"check": check, "seed": seed, "tile": tile, "passed": False, "error": end}
            records.append(record)
        return records

    with ThreadPoolExecutor(at_once) as pool:
        for records in pool.map(run, (*alone, *together)):
            yield from records


def _in_a_process(arguments: list[str], limit_s: float) -> tuple[str, str]:
    """What this script printed, and how it ended."""
    command = [sys.executable, __file__, *arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(command, stdout=output, stderr=errors, timeout=limit_s)
            end = f"ended with code {done.returncode}"
        except subprocess.TimeoutExpired:
            end = f"not done after {limit_s:.0f} s"
        output.seek(0)
        errors.seek(0)
        sys.stderr.write(errors.read()[-4000:])
        return output.read(), end


def main() -> int:
    parser = argparse.ArgumentParser(description="Every kernel against its reference.")
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--small", action="store_true", help="matrices of at most 40 rows")
    parser.add_argument("--only", help="the name of one check")
    parser.add_argument("--tile", type=int, help="GEMMs alone, by this cut alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checks, tile = CHECKS, None
    if options.tile is not None:
        launch.TILES = (launch.TILES[options.tile],)
        checks, tile = GEMM_CHECKS, launch.TILES[0].name
    largest = 40 if options.small or options.device == "cpu" else 300
    failed = 0
    for seed in options.seeds:
        for check in checks:
            if options.only not in (None, check.__name__):
                continue
            record = {"check": check.__name__, "seed": seed, "tile": tile, "passed": True}
            try:
                check(Draw(options.device, seed, largest=largest))
            except Exception as error:
                failed += 1
                traceback.print_exc()
                record |= {"passed": False, "error": f"{type(error).__name__}: {error}"[:2000]}
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
