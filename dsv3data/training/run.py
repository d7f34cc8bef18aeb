"""`dsv3data train`: open the data, build or resume the model, train, say what came of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dsv3data.contracts.config import to_dict
from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.contracts.meter import Meter
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import set_aside, write_atomic
from dsv3data.io.lock import OutputLock
from dsv3data.io.places import refuse_output_inside
from dsv3data.kernels.dispatch import backend_of, operations, remember_choices
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.prefetch import Prefetcher
from dsv3data.loader.stream import SequenceStream
from dsv3data.model.accounting import count_parameters, flop_per_token, training_bytes
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import Progress, resume
from dsv3data.training.config import TrainConfig
from dsv3data.training.cost import device_hours, dollars, tflop_per_s, utilisation
from dsv3data.training.data import Dataset, Stream
from dsv3data.training.ema import WeightAverage
from dsv3data.training.loop import Run, train
from dsv3data.training.metrics import mean_of
from dsv3data.training.nudge import nudge_weights
from dsv3data.training.optimizer import AdamW
from dsv3data.training.postmortem import Lineage
from dsv3data.training.schedule import planned_tokens
from dsv3data.training.start import load_start
from dsv3data.training.stop import StopRequest
from dsv3data.training.tensorboard import EventFiles, require_tensorboard

SUMMARY_STEPS = 10
GEMM_CHOICES = "gemm-choices.json"  # of FP8 on a GPU


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run achieved; losses are nats per token of the main prediction."""

    steps: int
    tokens: int
    first_loss: float  # mean of the first ten steps, resumed or not; of a short run of half
    last_loss: float  # mean of the last ten, or half
    best_loss: float
    best_step: int
    bits_per_byte: float  # mean of the last ten steps
    wall_s: float  # of this process
    tokens_per_s: float  # of this process, all time included
    tflop_per_s: float  # of this process
    mfu: float | None  # of this process, where cost.peak_tflop_per_s is given
    device_hours: float  # of the whole run at this process's rate
    dollars: float | None  # of those hours, where cost.dollars_per_hour is given
    out: Path


def run_training(
    config: TrainConfig,
    *,
    data: Path,
    out: Path,
    sink: Sink,
    fresh: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    tensorboard: bool = False,
    start_from: Path | None = None,
) -> TrainResult:
    """Train on the packed set in `data` into the folder `out`, resuming what is there.

    Args:
        fresh: move an earlier output aside to OUT.N.old first.
        strict: stop at a damaged checkpoint instead of falling back to an older one.
        dry_run: build and describe the model, write and train nothing.
        tensorboard: also write event files into OUT/tensorboard.
        start_from: a run whose newest weights a new run starts from, as a phase of long context
            does, or a folder of imported ones; a run that has a checkpoint goes on from that.
    """
    refuse_output_inside([data], out)
    dataset = PackedDataset.open(data)
    stream = SequenceStream(dataset, seed=config.seed, stages=config.data.stages)
    with _read_ahead(stream, config) as rows:
        return train_on(
            dataset,
            rows,
            config,
            out=out,
            sink=sink,
            fresh=fresh,
            strict=strict,
            dry_run=dry_run,
            tensorboard=tensorboard,
            start_from=start_from,
        )


def _read_ahead(
    stream: SequenceStream, config: TrainConfig
) -> AbstractContextManager[SequenceStream | Prefetcher]:
    if not config.data.prefetch:
        return nullcontext(stream)
    rows = config.batch_start_rows or config.batch_rows
    return Prefetcher(stream, rows, depth=config.data.prefetch)


def train_on(
    dataset: Dataset,
    stream: Stream,
    config: TrainConfig,
    *,
    out: Path,
    sink: Sink,
    fresh: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    tensorboard: bool = False,
    start_from: Path | None = None,
) -> TrainResult:
    """`run_training` on data that is already open."""
    config = fit_to_data(config, dataset)
    check_device(config)
    if tensorboard:
        require_tensorboard()
    for line in describe(config):
        sink.note(line)
    if dataset.context < config.model.context:
        sink.note(
            f"rows of the data have {dataset.context:,} ids, fewer than the model's context: "
            "a step has fewer tokens than this"
        )
    if dry_run:
        return _nothing_trained(out)
    check_memory(config)
    if fresh:
        move_aside(out, sink)
    return train_folder(
        dataset,
        stream,
        config,
        out=out,
        sink=sink,
        strict=strict,
        tensorboard=tensorboard,
        start_from=start_from,
    )


def train_folder(
    dataset: Dataset,
    stream: Stream,
    config: TrainConfig,
    *,
    out: Path,
    sink: Sink,
    strict: bool = False,
    tensorboard: bool = False,
    start_from: Path | None = None,
) -> TrainResult:
    """Train a fitted config from what `out` holds to its last step."""
    if config.threads:
        torch.set_num_threads(config.threads)
    with StopRequest() as stop, OutputLock(out):
        meter = Meter()
        run = _prepare(dataset, stream, config, out, sink, strict=strict, start_from=start_from)
        tokens_before = run.progress.tokens
        with _event_files(run, tensorboard):
            train(run, stop)
        meter.advance(0, tokens=run.progress.tokens - tokens_before)
        return _summarise(run, meter)


@contextmanager
def _event_files(run: Run, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    run.events = EventFiles(run.out / "tensorboard", first_step=run.progress.step + 1)
    try:
        yield
    finally:
        run.events.close()


def move_aside(out: Path, sink: Sink) -> None:
    """Rename earlier output, if there is any.

    Raises:
        EnvironmentFault: another process is writing it.
    """
    if out.exists():
        with OutputLock(out):
            pass
        sink.note(f"earlier output moved to {set_aside(out)}")


def fit_to_data(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Fill in sizes left at 0.

    Raises:
        BadConfig: the model is too small for the data's ids or rows.
    """
    sizes = {"vocab_size": dataset.vocab_size, "context": dataset.context}
    for name, needed in sizes.items():
        given = getattr(config.model, name)
        if 0 < given < needed:
            raise BadConfig(
                f"model.{name} is {given:,}, but the packed data needs {needed:,}",
                where=f"model.{name}",
                effect="nothing was started",
                fix=f"set model.{name}=0 to take it from the data",
            )
        sizes[name] = given or needed
    return config.with_model(**sizes)


def check_device(config: TrainConfig) -> None:
    """Refuse what this machine cannot do.

    Raises:
        EnvironmentFault: no GPU, or one that FP8 was not written for.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault(
            "no GPU was found that torch can use",
            where="device=cuda",
            effect="nothing was started",
            fix="train on the CPU with --set device=cpu, or install a CUDA build of torch",
        )
    if config.precision == "fp8":
        operations(torch.device(config.device))


def check_memory(config: TrainConfig) -> None:
    """Refuse a model whose weights, gradients and moments alone are more than the machine has.

    Raises:
        EnvironmentFault: with the bytes needed and those there.
    """
    needed = _held_bytes(config)
    if config.device == "cuda":
        there, where = torch.cuda.get_device_properties(0).total_memory, "the GPU"
    else:
        there, where = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"
    if needed > there:
        raise EnvironmentFault(
            f"the model needs {needed / 2**30:,.1f} GiB for weights, gradients and moments; "
            f"{where} has {there / 2**30:,.1f} GiB",
            where=f"device={config.device}",
            effect="nothing was started",
            fix="take a smaller model, for example configs/tiny.toml; --dry-run describes any",
        )


def _held_bytes(config: TrainConfig) -> int:
    return training_bytes(config.model, 2 if config.optimizer.moments == "bf16" else 4)


def describe(config: TrainConfig) -> list[str]:
    """Size, memory and cost of the run, for people."""
    size = count_parameters(config.model)
    context = config.model.context
    flop = flop_per_token(config.model, context=context, mtp=True)
    step_tokens = config.batch_rows * context
    moment_bytes = 2 if config.optimizer.moments == "bf16" else 4
    lines = [
        f"model: {size.total:,} parameters ({size.main:,} main, {size.mtp:,} MTP), "
        f"{size.active:,} active per token",
        f"memory: {_held_bytes(config) / 2**30:,.2f} GiB for fp32 weights, "
        f"gradients and {config.optimizer.moments} Adam moments, activations beside",
        f"step: {config.batch_rows} rows of {context:,} tokens, {flop * step_tokens:.2e} FLOP; "
        f"{config.steps:,} steps are {planned_tokens(config):,} tokens",
    ]
    if config.checkpoint.asynchronous:
        copied = 4 + 2 * moment_bytes + (4 if config.ema_decay else 0)
        lines.append(
            f"checkpoints: {copied * size.total / 2**30:,.2f} GiB of CPU memory for a copy, "
            "written while training goes on"
        )
    if config.precision == "fp8":
        lines.append(f"precision: {backend_of(torch.device(config.device))}")
    return lines


def _prepare(
    dataset: Dataset,
    stream: Stream,
    config: TrainConfig,
    out: Path,
    sink: Sink,
    *,
    strict: bool,
    start_from: Path | None,
) -> Run:
    """Model, moments and stream at the newest checkpoint, or at the beginning."""
    model = Transformer(config.model).to(config.device)
    model.set_precision(config.precision)
    remember_choices(out / GEMM_CHOICES)
    model.set_attention(config.attention)
    model.set_recompute(config.recompute)
    optimizer = AdamW(model.named_parameters(), config.optimizer)
    average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
    run = Run(
        config=config,
        model=model,
        optimizer=optimizer,
        stream=stream,
        bytes_per_id_V=_bytes_per_id(dataset, config),
        domains=dataset.domains,
        progress=Progress(),
        average=average,
        lineage=Lineage(dataset) if isinstance(dataset, PackedDataset) else None,
        events=None,
        out=out,
        sink=sink,
    )
    progress = resume(
        run.checkpoints, model, optimizer, config, sink, strict=strict, average=average
    )
    if progress is None:
        torch.manual_seed(config.seed)
        if start_from is None:
            init_weights(model, config.seed)
        else:
            load_start(model, config, start_from, stream, sink)
        nudge_weights(model, config.nudge, config.seed)
        if average is not None:
            average.restore(model.state_dict())
    else:
        stream.restore(progress.loader)
        run.progress = progress
    run.metrics.keep_until(run.progress.step)
    run.skipped_steps.keep_until(run.progress.step)
    run.quarantine.keep_until(run.progress.step)
    write_atomic(out / "config.json", json.dumps(to_dict(config), indent=1).encode())
    return run


def _bytes_per_id(dataset: Dataset, config: TrainConfig) -> torch.Tensor:
    """int64 [V]; ids that only the model has decode to nothing."""
    bytes_per_id_V = torch.zeros(config.model.vocab_size, dtype=torch.int64)
    bytes_per_id_V[: len(dataset.token_bytes)] = torch.from_numpy(dataset.token_bytes.copy())
    return bytes_per_id_V


def _summarise(run: Run, meter: Meter) -> TrainResult:
    records: list[dict[str, Any]] = run.metrics.read()
    trained = [record for record in records if record["main_loss"] is not None]
    rate = meter.rate("tokens")
    tflops = tflop_per_s(rate, run.flop_per_token)
    hours = device_hours(run.progress.tokens, rate) if rate else 0.0
    few = max(1, min(SUMMARY_STEPS, len(records) // 2))
    best = min(trained, key=lambda record: record["main_loss"], default=None)
    return TrainResult(
        steps=run.progress.step,
        tokens=run.progress.tokens,
        first_loss=mean_of(records[:few], "main_loss"),
        last_loss=mean_of(records[-few:], "main_loss"),
        best_loss=best["main_loss"] if best else math.nan,
        best_step=best["step"] if best else 0,
        bits_per_byte=mean_of(records[-few:], "bits_per_byte"),
        wall_s=meter.seconds,
        tokens_per_s=rate,
        tflop_per_s=tflops,
        mfu=utilisation(tflops, run.config.cost.peak_tflop_per_s),
        device_hours=hours,
        dollars=dollars(hours, run.config.cost.dollars_per_hour),
        out=run.out,
    )


def _nothing_trained(out: Path) -> TrainResult:
    return TrainResult(
        steps=0,
        tokens=0,
        first_loss=math.nan,
        last_loss=math.nan,
        best_loss=math.nan,
        best_step=0,
        bits_per_byte=math.nan,
        wall_s=0.0,
        tokens_per_s=0.0,
        tflop_per_s=0.0,
        mfu=None,
        device_hours=0.0,
        dollars=None,
        out=out,
    )
