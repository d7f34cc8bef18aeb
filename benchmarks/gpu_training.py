"""What training does on a Hopper GPU: the gate of FP8, speed, memory, attention, checkpoints, rows.

    python benchmarks/gpu_training.py SECTION --out FOLDER [--rows PACKED] [--smoke]

Sections: gate, train, model, attention, optimizer, checkpoint, loader. `--smoke` runs tiny sizes on
a CPU, to see that the script itself works; its figures mean nothing. scripts/gpu.sh runs all.

Legend: B rows, T tokens of a row, H heads, q width of queries and keys, V width of values.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.attention
import torch.nn.functional as F
from torch import Tensor

from dsv3data.contracts.config import load_config, to_dict
from dsv3data.kernels.dispatch import remember_choices
from dsv3data.model.accounting import flop_per_token
from dsv3data.model.attention import attend, mask_for
from dsv3data.model.config import Precision
from dsv3data.model.norm import RMSNorm
from dsv3data.model.router import Router
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.cost import tflop_per_s
from dsv3data.training.load import relative
from dsv3data.training.optimizer import AdamW
from dsv3data.training.schedule import knobs
from dsv3data.training.spikes import NO_LIMITS
from dsv3data.training.step import micro_batches, train_step
from gpu import Machine, Row, Way, run_section
from kept_bytes import linear_activation_bytes

ROOT = Path(__file__).parents[1]
CONFIGS, RUNS = ROOT / "configs", ROOT / "runs"
PEAK_TFLOP_PER_S = 989.0  # an H100 or H200 in BF16, dense: the denominator of MFU
SEEDS = 3
WARM_STEPS, TIMED_STEPS = 2, 3
STEPS_OF_GATE = (30, 400)  # least and most of a run
SHARE_KEPT_BACK = 0.1  # of the gate's time, for what was not foreseen


# The gate


def gate(machine: Machine) -> Iterator[Row]:
    """`dsv3data train --compare fp8,bf16` of `small`, in memory, with as many steps as there is
    time for: no checkpoint of 18 GB is written, and weights are drawn on the GPU.

    A row for each run with its losses; after each seed a row with the verdict over all seeds so
    far; at last what E4M3 costs each layer.
    """
    from dsv3data.loader.packed_dataset import PackedDataset
    from dsv3data.loader.stream import SequenceStream
    from dsv3data.training.compare import judge, layer_losses

    pair: tuple[Precision, Precision] = ("fp8", "fp32" if machine.smoke else "bf16")
    dataset = PackedDataset.open(machine.rows)
    config = _gate_config(machine, steps=STEPS_OF_GATE[1]).with_model(
        vocab_size=dataset.vocab_size, context=dataset.context
    )
    remember_choices(machine.out / "gemm-choices.json")
    net = new_model(config, machine)
    draw_weights(net, seed=0)
    step_s = {
        name: _seconds_of_a_step(net, config, name, SequenceStream(dataset, seed=0), machine)
        for name in pair
    }
    seed_s = step_s[pair[0]] + 2 * step_s[pair[1]]  # of one step of a seed's three runs
    steps = 2 if machine.smoke else _steps_that_fit(seed_s, machine.seconds_left)
    config = _gate_config(machine, steps=steps).with_model(
        vocab_size=dataset.vocab_size, context=dataset.context
    )
    yield {"steps": steps, "step_s": step_s, "rows_root": dataset.root, "config": to_dict(config)}
    curves: dict[tuple[str, int], list[float]] = {}
    for seed in range(SEEDS):
        if machine.seconds_left < steps * seed_s:
            yield {"left_out": f"seed {seed}: no time left"}
            break
        draw_weights(net, seed)
        start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        for name in (*reversed(pair), "nudged"):
            net.load_state_dict(start)
            if name == "nudged":
                nudge(net, seed)
            net.set_precision(pair[1] if name == "nudged" else name)
            stream = SequenceStream(dataset, seed=seed)
            run = _train(net, config, stream, machine)
            curves[name, seed] = run["losses"]
            yield {"run": name, "seed": seed, **run}
        del start
        seeds = range(seed + 1)
        yield {"comparison": asdict(judge(pair, seeds, curves, ()))}
    batch = SequenceStream(dataset, seed=0).next(config.batch_rows)
    layers = layer_losses(net, batch, replace(config, device=machine.device.type))
    yield {"layers": [asdict(layer) for layer in layers]}


def _gate_config(machine: Machine, *, steps: int) -> TrainConfig:
    """`small` on few rows a step. The rate rises for a tenth of the run, then falls to a
    thousandth: what rounding moves apart at a high rate comes together again. Balancing is as fast
    as in gate.toml."""
    name, rows = ("gate", 2) if machine.smoke else ("small", 4)
    config = load_config(TrainConfig, CONFIGS / f"{name}.toml", ["model.vocab_size=0"])
    context = config.model.context or 128
    warm = max(steps // 10, 1)
    schedule = replace(
        config.schedule,
        warmup_steps=warm,
        constant_tokens=warm * rows * context,
        cosine_tokens=max(steps - warm, 1) * rows * context,
        min_lr=config.optimizer.lr / 1000,
    )
    return replace(
        config,
        steps=steps,
        batch_rows=rows,
        micro_batch_rows=0,
        schedule=schedule,
        balance=replace(config.balance, gamma=0.01, gamma_off_after_tokens=0, alpha=1e-3),
        mtp=replace(config.mtp, late_after_tokens=0),
    )


def _seconds_of_a_step(
    net: Transformer, config: TrainConfig, precision: Precision, stream: Any, machine: Machine
) -> float:
    """Of a step that has been compiled; the weights move."""
    net.set_precision(precision)
    few = replace(config, steps=WARM_STEPS + TIMED_STEPS)
    ends = _train(net, few, stream, machine)["seconds"]
    return (ends[-1] - ends[WARM_STEPS - 1]) / TIMED_STEPS


def _steps_that_fit(seed_s: float, seconds: float) -> int:
    """So many steps that all runs of all seeds end in time."""
    least, most = STEPS_OF_GATE
    return min(max(int((1 - SHARE_KEPT_BACK) * seconds / (SEEDS * seed_s)), least), most)


def _train(net: Transformer, config: TrainConfig, stream: Any, machine: Machine) -> Row:
    """Main losses and, of each step, when it ended and how long it waited for its rows."""
    optimizer = AdamW(net.named_parameters(), config.optimizer)
    losses, ends, waits, fullest, tokens, skipped = [], [], [], [], 0, 0
    started = time.monotonic()
    for step in range(config.steps):
        waiting = time.monotonic()
        batch = stream.next(config.batch_rows)
        waits.append(round(time.monotonic() - waiting, 5))
        values = knobs(config, step=step, tokens=tokens)
        result = train_step(net, optimizer, batch, values, config, NO_LIMITS)
        machine.wait()
        ends.append(round(time.monotonic() - started, 4))
        tokens += result.n_tokens
        skipped += bool(result.skipped)
        losses.append(result.main_loss)
        fullest.append(round(max(max(relative(load_E)) for load_E in result.loads), 2))
    optimizer.zero_grad()
    return {
        "losses": losses,
        "tokens": tokens,
        "skipped": skipped,
        "seconds": ends,
        "data_wait_s": waits,
        "fullest_expert_over_mean": fullest,
    }


def new_model(config: TrainConfig, machine: Machine) -> Transformer:
    """Made where it stays; `draw_weights` fills it."""
    with torch.device(machine.device):
        return Transformer(config.model)


@torch.no_grad()
def draw_weights(net: Transformer, seed: int) -> None:
    """As `init_weights`, but on the GPU: 1.7 billion numbers take a CPU core ten seconds."""
    generator = torch.Generator(net.head.weight.device).manual_seed(seed)
    for parameter in net.parameters():
        parameter.normal_(0.0, net.config.init_std, generator=generator)
    for module in net.modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(1.0)
        if isinstance(module, Router):
            module.bias_E.zero_()


@torch.no_grad()
def nudge(net: Transformer, seed: int) -> None:
    """As `nudge_weights`, on the GPU."""
    from dsv3data.training.compare import NUDGE

    generator = torch.Generator(net.head.weight.device).manual_seed(seed)
    for parameter in net.parameters():
        noise = torch.empty_like(parameter).normal_(generator=generator)
        parameter.mul_(1 + NUDGE * noise)


# The command


def train(machine: Machine) -> Iterator[Row]:
    """`dsv3data train` in FP8 as a user runs it, on the small model of gate.toml: once, once more,
    and once in two halves. Nobody promises equal bits on a GPU; how far apart are the losses?"""
    from dsv3data.contracts.progress import NullSink
    from dsv3data.training.compare import read_curve
    from dsv3data.training.run import run_training

    steps, rows = (2, 1) if machine.smoke else (10, 4)
    config = load_config(
        TrainConfig, CONFIGS / "gate.toml", [f"batch_rows={rows}", "precision=fp8", "threads=0"]
    )
    config = replace(config, device=machine.device.type)
    curves: dict[str, list[float]] = {}
    with scratch_folder() as folder:
        for name, ends in {
            "once": [steps],
            "again": [steps],
            "in two": [steps // 2, steps],
        }.items():
            for end in ends:
                run = replace(config, steps=end)
                run_training(run, data=machine.rows, out=folder / name, sink=NullSink())
            curves[name] = read_curve(folder / name)
            pairs = list(zip(curves[name], curves["once"], strict=True))
            yield {
                "run": name,
                "losses": curves[name],
                "same_bits": curves[name] == curves["once"],
                "largest_difference": max(abs(mine / other - 1) for mine, other in pairs),
            }


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """On the disk of the repository: a folder for temporary files may be in memory."""
    RUNS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RUNS) as folder:
        yield Path(folder)


# Speed and memory of a step


@dataclass(frozen=True, kw_only=True)
class RandomRows:
    """A batch of random ids."""

    input_ids: Any
    n_tokens: Any
    row_ids: Any
    domain_ids: Any
    piece_lengths: Any

    @classmethod
    def of(cls, config: TrainConfig) -> RandomRows:
        generator = np.random.default_rng(0)
        rows, context = config.batch_rows, config.model.context
        return cls(
            input_ids=generator.integers(0, config.model.vocab_size, (rows, context), np.int32),
            n_tokens=np.full(rows, context, np.int32),
            row_ids=np.arange(rows),
            domain_ids=np.zeros(rows, np.int32),
            piece_lengths=[np.array([context], np.int32)] * rows,
        )


def model(machine: Machine) -> Iterator[Row]:
    """An optimizer step of `small` with its 129,280 entries on random ids, BF16 and FP8 by turns,
    the same weights; then where its time goes."""
    config = _small(machine, batch_rows=16)
    net = new_model(config, machine)
    draw_weights(net, seed=0)
    remember_choices(machine.out / "gemm-choices.json")
    optimizer = AdamW(net.named_parameters(), config.optimizer)
    batch = RandomRows.of(config)
    values = replace(knobs(config, step=0, tokens=0), lr=0.0)
    loads: dict[str, float] = {}
    peak: dict[str, int] = {}

    def step(precision: Precision) -> None:
        net.set_precision(precision)
        if not machine.smoke:
            torch.cuda.reset_peak_memory_stats()
        result = train_step(net, optimizer, batch, values, config, NO_LIMITS)
        loads[precision] = max(max(relative(load_E)) for load_E in result.loads)
        if not machine.smoke:
            peak[precision] = torch.cuda.max_memory_allocated()

    ways: dict[str, Way] = {name: lambda name=name: step(name) for name in ("bf16", "fp8")}
    times, left_out = machine.compare(ways, rounds=5)
    tokens = config.batch_rows * config.model.context
    flop = flop_per_token(config.model, context=config.model.context, mtp=True)
    rates = {name: 1000 * tokens / ms for name, ms in times.items()}
    tflops = {name: tflop_per_s(rate, flop) for name, rate in rates.items()}
    yield {
        "tokens": tokens,
        "micro_batch_rows": config.micro_batch_rows,
        "milliseconds": times,
        "left_out": left_out,
        "tokens_per_s": rates,
        "flop_per_token": flop,
        "tflop_per_s": tflops,
        "mfu": {name: value / PEAK_TFLOP_PER_S for name, value in tflops.items()},
        "fullest_expert_over_mean": loads,
        "peak_bytes": peak,
        "fp8_speedup": times["bf16"] / times["fp8"] if not left_out else None,
    }
    kept = {
        name: linear_activation_bytes(net, name, n_tokens=config.model.context) for name in times
    }
    yield {"linear_activation_bytes": kept}
    one = replace(config, batch_rows=config.micro_batch_rows)
    yield {"forward_keeps_bytes": {name: _kept(net, name, one, machine) for name in times}}
    for name in times:
        yield {"profile": name, **_profile(ways[name], machine)}


def _small(machine: Machine, *, batch_rows: int) -> TrainConfig:
    """`small` at its own sizes; for a smoke run the gate's model."""
    if machine.smoke:
        config = load_config(TrainConfig, CONFIGS / "gate.toml", ["threads=0"])
        config = config.with_model(vocab_size=512, context=64)
        return replace(config, batch_rows=2, micro_batch_rows=1)
    config = load_config(TrainConfig, CONFIGS / "small.toml")
    return replace(config, batch_rows=batch_rows)


def _kept(net: Transformer, precision: Precision, config: TrainConfig, machine: Machine) -> int:
    """Bytes of GPU memory that the forward pass of a micro-batch leaves behind for the backward
    one: activations, and weights in BF16. The codes of weights, kept for a step, do not count."""
    if machine.smoke:
        return 0
    net.set_precision(precision)
    micro = next(micro_batches(RandomRows.of(config), config, machine.device))
    net(micro.ids_BT, micro.valid_BT)  # makes the codes
    before = torch.cuda.memory_allocated()
    output = net(micro.ids_BT, micro.valid_BT)
    return torch.cuda.memory_allocated() - before if output.hidden_BTD.requires_grad else 0


def _profile(way: Way, machine: Machine, *, shown: int = 25) -> Row:
    """The kernels that take most of a step's time, in milliseconds with their number of calls."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CPU if machine.smoke else ProfilerActivity.CUDA
    started = time.monotonic()
    with profile(activities=[kind]) as found:
        way()
        machine.wait()
    wall_ms = 1000 * (time.monotonic() - started)
    times = {event.key: event.self_device_time_total / 1000 for event in found.key_averages()}
    counts = {event.key: event.count for event in found.key_averages()}
    longest = sorted(times, key=lambda key: -times[key])[:shown]
    return {
        "wall_ms": wall_ms,
        "busy_ms": sum(times.values()),
        "kernels": sum(counts.values()),
        "longest": [[name[:120], round(times[name], 3), counts[name]] for name in longest],
    }


# Attention


def attention(machine: Machine) -> Iterator[Row]:
    """The core of MLA at `small`'s shape in BF16, forward and backward: causal, and causal within
    documents of 512 tokens on average. First torch's own choice beside each of its kernels, then
    beside flex, which takes long to compile. The mask, which all layers of a model share, is made
    before."""
    b, t, h, q, v = (1, 128, 2, 48, 32) if machine.smoke else (4, 4096, 8, 192, 128)
    leaves = [machine.normal(b, t, h, width).requires_grad_() for width in (q, q, v)]
    masks = {"causal": None, "documents": _documents(b, t).to(machine.device)}
    kernels = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")
    for rivals in (("sdpa", "values filled up", *kernels), ("sdpa", "flex")):
        for name, documents in masks.items():
            core = AttentionCore(leaves, documents)
            ways = {rival: partial(core.forward_and_backward, rival) for rival in rivals}
            times, left_out = machine.compare(ways)
            yield {
                "mask": name,
                "shape": {"rows": b, "tokens": t, "heads": h, "query": q, "value": v},
                "milliseconds": times,
                "left_out": left_out,
                "peak_bytes": {way: _peak(ways[way], machine) for way in times},
                "differs_from_first": {
                    way: _distance(ways[way](), ways[next(iter(times))]()) for way in times
                },
            }


class AttentionCore:
    """Attention over the same tensors and mask in several ways."""

    def __init__(self, leaves: list[Tensor], documents_BT: Tensor | None) -> None:
        self.leaves, self.documents_BT = leaves, documents_BT
        self.grad_BTHV = torch.randn_like(leaves[2])
        self.masks: dict[str, Any] = {}

    def forward_and_backward(self, way: str) -> Tensor:
        """`way`: a back end of ours, one of torch's kernels, or "values filled up" to the width of
        queries, which flash attention asks for."""
        query, key, value = self.leaves
        width = value.shape[-1]
        if way == "values filled up":
            value = F.pad(value, (0, query.shape[-1] - width))
        kernel = getattr(torch.nn.attention.SDPBackend, way, None)
        with torch.nn.attention.sdpa_kernel(kernel) if kernel else nullcontext():
            y = self._attend(query, key, value, "flex" if way == "flex" else "sdpa")[..., :width]
            torch.autograd.grad(y, self.leaves, self.grad_BTHV)
        return y.detach()

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, backend: Any) -> Tensor:
        if backend not in self.masks:
            tokens, device = query.shape[1], query.device
            self.masks[backend] = mask_for(backend, self.documents_BT, tokens, device)
        scale = query.shape[-1] ** -0.5
        return attend(query, key, value, self.masks[backend], scale=scale, backend=backend)


def _documents(rows: int, tokens: int) -> Tensor:
    """The number of each token's document, int64 [B, T]; each token but a row's first begins one
    with a chance of 1 in 512."""
    begins = np.random.default_rng(0).random((rows, tokens)) < 1 / 512
    return torch.from_numpy(begins.cumsum(axis=1))


def _peak(way: Way, machine: Machine) -> int:
    """Bytes that a call needs at most, beside what is there before."""
    if machine.smoke:
        return 0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    way()
    machine.wait()
    return torch.cuda.max_memory_allocated() - before


def _distance(found: Tensor, other: Tensor) -> float:
    return float((found.double() - other.double()).norm() / other.double().norm())


# The optimizer


def optimizer(machine: Machine) -> Iterator[Row]:
    """AdamW's step on all weights of `small`: ours, with fp32 and with BF16 moments, and torch's
    fused one; bytes are those that must move."""
    config = _small(machine, batch_rows=4)
    net = new_model(config, machine)
    draw_weights(net, seed=0)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    numbers = sum(parameter.numel() for parameter in net.parameters())
    fp32, bf16 = (
        AdamW(net.named_parameters(), replace(config.optimizer, moments=moments))
        for moments in ("fp32", "bf16")
    )
    torchs = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)
    ways: dict[str, tuple[int, Way]] = {
        "ours, fp32 moments": (28, lambda: fp32.step(1e-6)),
        "ours, bf16 moments": (20, lambda: bf16.step(1e-6)),
        "torch, fused": (28, torchs.step),
        "gradient norm": (
            4,
            lambda: torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9),
        ),
    }
    times, left_out = machine.compare({name: way for name, (_, way) in ways.items()})
    yield {
        "parameters": numbers,
        "milliseconds": times,
        "left_out": left_out,
        "gb_per_s": {name: ways[name][0] * numbers / ms / 1e6 for name, ms in times.items()},
    }


# Checkpoints


def checkpoint(machine: Machine) -> Iterator[Row]:
    """How long a step waits for a checkpoint that a thread writes, and how much slower steps are
    while it does: a third of `small`. Rows as they are known: writing may outlast the section."""
    from dsv3data.contracts.progress import NullSink
    from dsv3data.training.checkpoint import Progress, contents_of
    from dsv3data.training.checkpoint_writer import CheckpointWriter
    from dsv3data.training.stop import StopRequest

    config = _small(machine, batch_rows=4)
    if not machine.smoke:
        config = replace(config, model=replace(config.model, n_layers=4, vocab_size=17_280))
    net = new_model(config, machine)
    draw_weights(net, seed=0)
    net.set_precision("bf16")
    adam = AdamW(net.named_parameters(), config.optimizer)
    batch = RandomRows.of(config)
    values = knobs(config, step=0, tokens=0)

    def step() -> float:
        started = time.monotonic()
        train_step(net, adam, batch, values, config, NO_LIMITS)
        machine.wait()
        return time.monotonic() - started

    quiet = [step() for _ in range(2 if machine.smoke else 10)][-5:]
    tensors = contents_of(net, adam, Progress(), config).tensors
    n_bytes = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    yield {"bytes": n_bytes, "step_s_before": quiet, **_copies(tensors, machine)}
    with scratch_folder() as folder:
        keeping = replace(config.checkpoint, keep=1)
        stop, sink = StopRequest(), NullSink()
        with CheckpointWriter(folder, keeping, stop=stop, sink=sink) as writer:
            for number in (1, 2):
                contents = contents_of(net, adam, Progress(step=number), config)
                machine.wait()
                started = time.monotonic()
                writer.save(contents)
                paused = time.monotonic() - started
                yield {"save": number, "pause_s": paused, "gb_per_s": n_bytes / paused / 1e9}
                meanwhile = [step() for _ in range(2 if machine.smoke else 10)]
                yield {"save": number, "step_s_while_writing": meanwhile}
                writer.wait()
                yield {"save": number, "written_after_s": time.monotonic() - started}


def _copies(tensors: dict[str, dict[str, Tensor]], machine: Machine) -> Row:
    """GB/s of a copy of the weights into CPU memory: pinned, as checkpoints do, and not."""
    from dsv3data.training.host_copy import copy_to_host, host_buffers

    weights = next(iter(tensors.values()))
    n_bytes = sum(tensor.nbytes for tensor in weights.values())
    pinning = time.monotonic()
    pinned = host_buffers(weights)
    pinning = time.monotonic() - pinning
    plain = {name: torch.empty(w.shape, dtype=w.dtype).fill_(0) for name, w in weights.items()}
    rates = {}
    for name, buffers in (("pinned", pinned), ("not pinned", plain)):
        copy_to_host(weights, buffers)
        machine.wait()
        started = time.monotonic()
        copy_to_host(weights, buffers)
        rates[name] = n_bytes / (time.monotonic() - started) / 1e9
    return {"copied_bytes": n_bytes, "pinning_s": pinning, "copy_gb_per_s": rates}


# Rows


def loader(machine: Machine) -> Iterator[Row]:
    """Tokens a second from the packed set to the GPU, every row's CRC checked: what a step of 16
    rows may at most ask for. The set is small: its files are in the operating system's memory."""
    from dsv3data.loader.packed_dataset import PackedDataset
    from dsv3data.loader.prefetch import Prefetcher
    from dsv3data.loader.stream import SequenceStream

    started = time.monotonic()
    dataset = PackedDataset.open(machine.rows)
    opened = time.monotonic() - started
    config = _small(machine, batch_rows=16)
    rows, rounds = config.batch_rows, 3 if machine.smoke else 300
    stream = SequenceStream(dataset, seed=0)
    with Prefetcher(SequenceStream(dataset, seed=0), rows, depth=2) as ahead:
        sources: dict[str, Callable[[], Any]] = {
            "stream": lambda: stream.next(rows),
            "stream, to the device": lambda: _to_device(stream.next(rows), config, machine),
            "read ahead": ahead.next,
            "read ahead, to the device": lambda: _to_device(ahead.next(), config, machine),
        }
        rates = {name: _per_second(source, rounds) for name, source in sources.items()}
    yield {
        "rows": dataset.n_rows,
        "context": dataset.context,
        "open_s": opened,
        "batch_rows": rows,
        "tokens_per_s": {name: rate * rows * dataset.context for name, rate in rates.items()},
    }


def _to_device(batch: Any, config: TrainConfig, machine: Machine) -> None:
    for _ in micro_batches(batch, config, machine.device):
        pass
    machine.wait()


def _per_second(source: Callable[[], Any], rounds: int) -> float:
    source()
    started = time.monotonic()
    for _ in range(rounds):
        source()
    return rounds / (time.monotonic() - started)


SECTIONS = {
    "gate": gate,
    "train": train,
    "model": model,
    "attention": attention,
    "optimizer": optimizer,
    "checkpoint": checkpoint,
    "loader": loader,
}

if __name__ == "__main__":
    run_section(SECTIONS, "Train on a GPU.")
