"""Time the FP8 kernels on a Hopper GPU, beside BF16 and cuBLAS, in one process a section.

    python -P benchmarks/kernels.py SECTION --out FILE [--smoke]

Sections: dense, grouped, quantise, model, training, specialised. Rivals take turns within a row,
several times over; a row has the median of each. `--smoke` runs tiny sizes on a CPU, in Triton's
interpreter, to see that the script itself works; its figures mean nothing. scripts/gpu.sh runs all.

Legend: M tokens, N output width, K input width, E experts, V visits.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton

from dsv3data.kernels import library
from dsv3data.kernels.device import launch
from dsv3data.kernels.segments import segments_of

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
    """Forward GEMM alone, operands quantised before."""
    for n, k in DENSE:
        m, n, k = (machine.shrink(size) for size in (TOKENS, n, k))
        x, w = machine.normal(m, k), machine.normal(1, n, k)
        a, (b, _) = launch.quantise_rows(x), launch.quantise_blocks(w)
        ways: dict[str, Way] = {"bf16": lambda x=x, w=w: F.linear(x, w[0])}
        for number, tile in enumerate(launch.TILES):
            ways[f"triton {number}"] = lambda a=a, b=b, tile=tile: launch.matmul_blocks(
                a, b, out_dtype=torch.bfloat16, tile=tile
            )
        if not machine.smoke and library.can_multiply(a, b, torch.bfloat16):
            ways["scaled_mm"] = lambda a=a, b=b: library.matmul_blocks(
                a, b, out_dtype=torch.bfloat16
            )
        yield gemm_row({"m": m, "n": n, "k": k}, 2 * m * n * k, machine.milliseconds(ways))


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
    source, tiles, ends = segments.token_of_slot_P, segments.tile_experts, plain.starts_E1[1:]
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
                x_rows, straight, tile_experts=tiles, out_dtype=low, tile=tile
            ),
        ),
        "input gradient": (
            lambda: F.grouped_mm(grad, w, offs=ends),
            lambda tile: launch.matmul_blocks(
                grad_rows, turned, tile_experts=tiles, out_dtype=low, tile=tile
            ),
        ),
        "weight gradient": (
            lambda: F.grouped_mm(grad.T, x, offs=ends),
            lambda tile: launch.matmul_rows(grad_columns, x_columns, segments.starts_E1, tile=tile),
        ),
    }
    for direction, (bf16, ours) in directions.items():
        ways: dict[str, Way] = {"bf16": bf16}
        for number, tile in enumerate(launch.TILES):
            ways[f"triton {number}"] = lambda ours=ours, tile=tile: ours(tile)
        sizes = {"direction": direction, "experts": experts, "visits": visits, "n": n, "k": k}
        yield gemm_row(sizes, 2 * visits * n * k, machine.milliseconds(ways))


def gemm_row(sizes: Row, flop: int, milliseconds: dict[str, float]) -> Row:
    tflops = {name: flop / ms / 1e9 for name, ms in milliseconds.items()}
    ours = max(value for name, value in tflops.items() if name.startswith("triton"))
    best = max(ours, tflops.get("scaled_mm", 0.0))
    return {
        **sizes,
        "milliseconds": milliseconds,
        "tflop_per_s": tflops,
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
    slots = torch.arange(rows, device=x.device).view(-1, top_k)
    values = x.numel()
    ways: dict[str, tuple[int, Way]] = {
        "rows": (3 * values, lambda: launch.quantise_rows(x)),
        "gathered rows": (3 * values, lambda: launch.quantise_rows(x, source_P=slots.flatten())),
        "columns": (3 * values, lambda: launch.quantise_columns(x)),
        "retile": (2 * values, lambda: launch.retile(q)),
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
        "saved_activation_bytes": saved_bytes(net, batch, config, machine, list(ways)),
        "fp8_speedup": times["bf16"] / times["fp8"] if "bf16" in times else None,
    }


def saved_bytes(
    net: Any, batch: Any, config: Any, machine: Machine, precisions: list[str]
) -> dict[str, int]:
    """Bytes that one micro-batch's forward pass keeps, parameters and repeats left out."""
    ids = torch.from_numpy(batch.input_ids[: config.micro_batch_rows].astype("int64"))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    sizes = {}
    for precision in precisions:
        net.set_precision(precision)
        found: dict[int, int] = {}

        def keep(tensor: torch.Tensor, found: dict[int, int] = found) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(ids.to(machine.device))
        sizes[precision] = sum(found.values())
        del output
    return sizes


def training(machine: Machine) -> Iterator[Row]:
    """FP8 against BF16 (on a CPU FP32) from two seeds: `tiny` on made-up rows, the gate applied."""
    import tempfile
    from dataclasses import asdict, replace

    from dsv3data.contracts.config import load_config
    from dsv3data.contracts.progress import NullSink
    from dsv3data.training.compare import compare_precisions, parse_pair
    from dsv3data.training.config import TrainConfig
    from fake_training_data import FakeDataset, FakeStream

    config = load_config(TrainConfig, Path(__file__).parents[1] / "configs" / "tiny.toml")
    steps, pair = (2, "fp8,fp32") if machine.smoke else (100, "fp8,bf16")
    config = replace(config, steps=steps, batch_rows=32, device=machine.device.type)
    dataset = FakeDataset()
    with tempfile.TemporaryDirectory() as folder:
        result = compare_precisions(
            dataset,
            lambda seed: FakeStream(dataset, seed=seed),
            config,
            parse_pair(pair),
            n_seeds=2,
            out=Path(folder) / "comparison",
            sink=NullSink(),
        )
    yield asdict(result)


def specialised(machine: Machine) -> Iterator[Row]:
    """The tile with specialised warps, which compiles but was never run: first is it right?"""
    n, k = (machine.shrink(size) for size in (4096, 7168))
    x, w = machine.normal(machine.shrink(TOKENS), k), machine.normal(1, n, k)
    a, (b, _) = launch.quantise_rows(x), launch.quantise_blocks(w)
    ways: dict[str, Way] = {"bf16": lambda: F.linear(x, w[0])}
    for name, tile in (("triton 0", launch.TILES[0]), ("triton s", launch.SPECIALISED_TILE)):
        ways[name] = lambda tile=tile: launch.matmul_blocks(
            a, b, out_dtype=torch.bfloat16, tile=tile
        )
    equal = bool(torch.equal(ways["triton 0"](), ways["triton s"]()))
    sizes = {"m": len(x), "n": n, "k": k, "equal": equal}
    yield gemm_row(sizes, 2 * len(x) * n * k, machine.milliseconds(ways))


SECTIONS = {
    "dense": dense,
    "grouped": grouped,
    "quantise": quantise,
    "model": model,
    "training": training,
    "specialised": specialised,
}


def environment(machine: Machine) -> Row:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return {
        "gpu": "none: smoke" if machine.smoke else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "command": " ".join(sys.argv),
        "tiles": [str(tile) for tile in launch.TILES],
    }


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
