"""Time the FP8 kernels on a Hopper GPU, beside BF16 and cuBLAS, in one process a section.

    python benchmarks/kernels.py SECTION --out FILE [--smoke]

Sections: dense, grouped, quantise, model, training. Rivals take turns within a row, several times
over; a row has the median of each. `--smoke` runs tiny sizes on a CPU, in Triton's interpreter, to
see that the script itself works; its figures mean nothing. scripts/gpu.sh runs all; it needs torch,
Triton, numpy and pyarrow alone. benchmarks/kernels_table.py makes the tables of docs/fp8.md.

Legend: M tokens, N output width, K input width, E experts, V visits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dsv3data.kernels import library
from dsv3data.kernels.device import launch
from dsv3data.kernels.segments import segments_of
from measuring import machine as description

# DeepSeek-V3's linear layers, N × K, and its experts' two matrices [§4.2].
DENSE = ((7168, 16384), (4096, 7168), (24576, 1536), (32768, 512), (2112, 7168))
EXPERTS = ((4096, 7168), (7168, 2048))
GROUPS = (8, 32, 64)
TOKENS, VISITS = 4096, 32_768
ROUNDS = 7
Way = Callable[[], Any]
Row = dict[str, Any]


class Machine:
    """Where to run, and how large."""

    def __init__(self, *, smoke: bool) -> None:
        self.smoke = smoke
        self.device = torch.device("cpu" if smoke else "cuda")

    def shrink(self, size: int) -> int:
        return max(size // 64, 16) if self.smoke else size

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16)

    def milliseconds(self, ways: dict[str, Way]) -> dict[str, float]:
        """Median of each way, the ways taking turns."""
        times: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(1 + (1 if self.smoke else ROUNDS)):
            for name, way in ways.items():
                elapsed = self._once(way)
                if round_:  # the first compiles and warms up
                    times[name].append(elapsed)
        return {name: statistics.median(values) for name, values in times.items()}

    def _once(self, way: Way) -> float:
        if self.smoke:
            started = time.perf_counter()
            way()
            return 1000 * (time.perf_counter() - started)
        # Push the last operands out of L2, and let the host run ahead of the GPU.
        torch.empty(256 << 20, dtype=torch.int8, device=self.device).zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        way()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


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
    yield gemm_row({"direction": "forward", **sizes}, flop, machine.milliseconds(ways))
    grad_columns, x_columns = launch.quantise_columns(grad), launch.quantise_columns(x)
    starts = torch.tensor(
        [0, grad_columns.codes_RC.shape[1]], dtype=torch.int32, device=machine.device
    )
    ways = tiles(lambda tile: launch.matmul_rows(grad_columns, x_columns, starts, tile=tile))
    ways["bf16"] = lambda: grad.T @ x
    if not machine.smoke and library.can_multiply_rows(grad_columns, x_columns):
        ways["cublas"] = lambda: library.matmul_rows(grad_columns, x_columns)
    yield gemm_row({"direction": "weight gradient", **sizes}, flop, machine.milliseconds(ways))


def tiles(multiply: Callable[[launch.Tile], Any]) -> dict[str, Way]:
    """Our kernel by each of its tiles, those that this Triton compiles."""
    ways = {}
    for tile in launch.TILES:
        try:
            multiply(tile)
        except Exception as error:  # a compiler's errors have no common class
            print(f"{tile.name} is left out: {error}"[:500], file=sys.stderr)
            continue
        ways[tile.name] = lambda tile=tile: multiply(tile)
    return ways


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
        yield gemm_row(sizes, 2 * visits * n * k, machine.milliseconds(ways))


def gemm_row(sizes: Row, flop: int, milliseconds: dict[str, float]) -> Row:
    tflops = {name: flop / ms / 1e9 for name, ms in milliseconds.items()}
    ours = max(value for name, value in tflops.items() if name.startswith("triton"))
    best = max(ours, tflops.get("cublas", 0.0))
    return {
        **sizes,
        "milliseconds": milliseconds,
        "tflop_per_s": tflops,
        "triton_tflop_per_s": ours,
        "triton_over_bf16": ours / tflops["bf16"],
        "dispatch_tflop_per_s": best,
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
        times = machine.milliseconds(
            {"kernel": way, "copy": lambda half=half, other=other: other.copy_(half)}
        )
        yield {
            "kernel": name,
            "bytes": n_bytes,
            "milliseconds": times,
            "gb_per_s": {key: n_bytes / ms / 1e6 for key, ms in times.items()},
            "share_of_copy": times["copy"] / times["kernel"],
        }


def model(machine: Machine) -> Iterator[Row]:
    """One optimizer step of `small` on random ids, FP8 and BF16, the same weights."""
    from dataclasses import replace

    import numpy as np

    from dsv3data.contracts.config import load_config
    from dsv3data.model.init import init_weights
    from dsv3data.model.transformer import Transformer
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.optimizer import AdamW
    from dsv3data.training.schedule import knobs
    from dsv3data.training.spikes import NO_LIMITS
    from dsv3data.training.step import train_step
    from kept_bytes import linear_activation_bytes

    name = "tiny" if machine.smoke else "small"
    root = Path(__file__).parents[1]
    config = load_config(TrainConfig, root / "configs" / f"{name}.toml")
    context, rows = (64, 2) if machine.smoke else (4096, 16)
    config = replace(config, micro_batch_rows=rows // 4 or 1, batch_rows=rows)
    config = config.with_model(vocab_size=config.model.vocab_size or 512, context=context)
    net = Transformer(config.model)
    init_weights(net, 0)
    net = net.to(machine.device)
    optimizer = AdamW(net.named_parameters(), config.optimizer)
    generator = np.random.default_rng(0)
    batch = argparse.Namespace(
        input_ids=generator.integers(0, config.model.vocab_size, (rows, context), np.int32),
        n_tokens=np.full(rows, context, np.int32),
        row_ids=np.arange(rows),
        domain_ids=np.zeros(rows, np.int32),
    )
    values = replace(knobs(config, step=0, tokens=0), lr=0.0)
    ways: dict[str, Way] = {}
    peak: dict[str, int] = {}
    for precision in ("fp8",) if machine.smoke else ("bf16", "fp8"):

        def step(precision: Any = precision) -> None:
            net.set_precision(precision)
            if not machine.smoke:
                torch.cuda.reset_peak_memory_stats()
            train_step(net, optimizer, batch, values, config, NO_LIMITS)
            if not machine.smoke:
                peak[precision] = torch.cuda.max_memory_allocated()

        ways[precision] = step
    times = machine.milliseconds(ways)
    yield {
        "model": name,
        "tokens": rows * context,
        "micro_batch_rows": config.micro_batch_rows,
        "milliseconds": times,
        "tokens_per_s": {key: 1000 * rows * context / ms for key, ms in times.items()},
        "peak_bytes": peak,
        "linear_activation_bytes": {
            precision: linear_activation_bytes(net, precision, n_tokens=context)
            for precision in ways
        },
        "fp8_speedup": times["bf16"] / times["fp8"] if "bf16" in times else None,
    }


def training(machine: Machine) -> Iterator[Row]:
    """Loss curves of `small` on made-up rows, FP8 and BF16, from two seeds; a row for each run.

    The gate proper is `dsv3data train --compare` on real data, for hours; this tells whether
    training in FP8 works at all, in a minute.
    """
    from dataclasses import replace

    from dsv3data.contracts.config import load_config
    from dsv3data.model.init import init_weights
    from dsv3data.model.transformer import Transformer
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.optimizer import AdamW
    from dsv3data.training.schedule import knobs
    from dsv3data.training.spikes import NO_LIMITS
    from dsv3data.training.step import train_step
    from fake_training_data import FakeDataset, FakeStream

    name = "tiny" if machine.smoke else "small"
    config = load_config(TrainConfig, Path(__file__).parents[1] / "configs" / f"{name}.toml")
    steps, rows, context = (2, 2, 16) if machine.smoke else (60, 8, 1024)
    config = replace(config, steps=steps, batch_rows=rows, micro_batch_rows=0)
    config = config.with_model(vocab_size=128, context=context)
    for seed in (0, 1):
        for precision in ("fp8",) if machine.smoke else ("bf16", "fp8"):
            stream = FakeStream(FakeDataset(context=context), seed=seed)
            net = Transformer(config.model)
            init_weights(net, seed)
            net = net.to(machine.device)
            net.set_precision(precision)
            optimizer = AdamW(net.named_parameters(), config.optimizer)
            losses = []
            for step in range(steps):
                values = replace(knobs(config, step=step, tokens=0), lr=1e-3)
                result = train_step(net, optimizer, stream.next(rows), values, config, NO_LIMITS)
                losses.append(round(result.main_loss, 5))
            yield {"precision": precision, "seed": seed, "losses": losses}


SECTIONS = {
    "dense": dense,
    "grouped": grouped,
    "quantise": quantise,
    "model": model,
    "training": training,
}


def environment(machine: Machine) -> Row:
    gpu = "none: smoke" if machine.smoke else torch.cuda.get_device_name()
    about = {"gpu": gpu, "cuda": torch.version.cuda, **description("torch", "triton", "numpy")}
    return {"machine": about, "command": " ".join(sys.argv)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the FP8 kernels.")
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    machine = Machine(smoke=arguments.smoke)
    torch.manual_seed(0)
    report: Row = {"section": arguments.section, **environment(machine), "rows": []}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for row in SECTIONS[arguments.section](machine):
        report["rows"].append(row)
        print(json.dumps(row), flush=True)
        # Written after every row: what was measured stays if a later row fails.
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
