"""The loop: next rows, one step, write it down, save now and then, stop when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dsv3data.contracts.errors import BadInput, Dsv3DataError, Stopped
from dsv3data.contracts.meter import Meter
from dsv3data.contracts.progress import Sink
from dsv3data.model.accounting import flop_per_token
from dsv3data.model.transformer import Transformer
from dsv3data.training.acceptance import mtp_acceptance
from dsv3data.training.checkpoint import Progress, contents_of
from dsv3data.training.checkpoint_writer import CheckpointWriter
from dsv3data.training.config import TrainConfig
from dsv3data.training.cost import tflop_per_s, utilisation
from dsv3data.training.data import Batch, Stream
from dsv3data.training.ema import WeightAverage
from dsv3data.training.guards import GUARDED_STEPS, check_first_steps
from dsv3data.training.load import relative
from dsv3data.training.metrics import (
    JsonLines,
    bits_per_byte,
    clock,
    finite_or_none,
    loss_by_domain,
    max_violation,
)
from dsv3data.training.optimizer import AdamW
from dsv3data.training.postmortem import DocumentFinding, Lineage, examine, to_quarantine
from dsv3data.training.schedule import Knobs, knobs
from dsv3data.training.spikes import StepLimits, step_limits
from dsv3data.training.step import StepResult, target_bytes, train_step
from dsv3data.training.stop import StopRequest
from dsv3data.training.tensorboard import EventFiles

_SUSPECTS_SHOWN = 5


@dataclass(kw_only=True)
class Run:
    """One run's moving parts."""

    config: TrainConfig
    model: Transformer
    optimizer: AdamW
    stream: Stream
    bytes_per_id_V: torch.Tensor  # int64: UTF-8 bytes each id decodes to
    domains: Sequence[str]
    progress: Progress
    average: WeightAverage | None
    lineage: Lineage | None  # of the rows, for post-mortems
    events: EventFiles | None  # for TensorBoard
    out: Path
    sink: Sink
    meter: Meter = field(default_factory=Meter)  # of this process: steps, and tokens

    @cached_property
    def flop_per_token(self) -> float:
        """Of training, causal, the MTP module included."""
        model = self.config.model
        return flop_per_token(model, context=model.context, mtp=True)

    @property
    def checkpoints(self) -> Path:
        return self.out / "checkpoints"

    @property
    def metrics(self) -> JsonLines:
        return JsonLines(self.out / "metrics.jsonl")

    @property
    def skipped_steps(self) -> JsonLines:
        return JsonLines(self.out / "skipped_steps.jsonl")

    @property
    def quarantine(self) -> JsonLines:
        return JsonLines(self.out / "quarantine.jsonl")


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Seconds that the loop stood still before a step: for its rows, for a checkpoint."""

    data_s: float
    checkpoint_s: float


def train(run: Run, stop: StopRequest) -> None:
    """Train from `run.progress` to the last step.

    Raises:
        Stopped: a signal asked for it; a checkpoint of the last finished step was written.
        BadInput: too many steps in a row had a loss or gradient that is not finite.
        EnvironmentFault: a checkpoint or a record could not be written. Where a thread writes
            checkpoints, its error ends the run before the step after it.
    """
    config, progress = run.config, run.progress
    if progress.step >= config.steps:
        run.sink.note(f"nothing left to train: step {progress.step} of {config.steps} is done")
        return
    run.meter = Meter(total=config.steps - progress.step)
    run.sink.phase("train", total=config.steps - progress.step, unit="steps")
    with CheckpointWriter(run.checkpoints, config.checkpoint, stop=stop, sink=run.sink) as writer:
        _train(run, stop, writer)
    if progress.step < config.steps:
        raise _stopped(run, stop)


def _train(run: Run, stop: StopRequest, writer: CheckpointWriter) -> None:
    """Steps and checkpoints, until the last step or a signal; the last one may still be written."""
    config, progress = run.config, run.progress
    started_at, saved_at = progress.step, progress.step
    checkpoint_s = 0.0
    while progress.step < config.steps and stop.signal_name is None:
        writer.check()
        values = knobs(config, step=progress.step, tokens=progress.tokens)
        waiting = Meter()
        batch = run.stream.next(values.batch_rows)
        waits = Waits(data_s=waiting.seconds, checkpoint_s=checkpoint_s)
        limits = step_limits(progress.recent, config.spike)
        result = train_step(run.model, run.optimizer, batch, values, config, limits)
        if not result.skipped and progress.step < started_at + GUARDED_STEPS:
            check_first_steps(run.model, batch, result, values, config)
        if run.average is not None and not result.skipped:
            run.average.update(run.model)
        run.meter.advance(1, tokens=result.n_tokens)
        _count(progress, result, config.spike.window)
        _write_down(run, batch, result, values, limits, waits)
        stop.answer(run.sink)
        checkpoint_s = 0.0
        if progress.step % config.checkpoint.every == 0 or progress.step == config.steps:
            checkpoint_s = _save(run, writer)
            saved_at = progress.step
    if saved_at < progress.step:
        _save(run, writer)


def _count(progress: Progress, result: StepResult, window: int) -> None:
    progress.step += 1
    progress.tokens += result.n_tokens
    progress.skipped_in_row = progress.skipped_in_row + 1 if result.skipped else 0
    if not result.skipped:
        progress.recent = [*progress.recent, [result.main_loss, result.grad_norm]][-window:]


def _write_down(
    run: Run,
    batch: Batch,
    result: StepResult,
    values: Knobs,
    limits: StepLimits,
    waits: Waits,
) -> None:
    record = step_record(run, batch, result, values, waits)
    if _is_shown(run):
        record["load_by_domain"] = load_by_domain(result, batch, run.domains)
        record["mtp_acceptance"] = mtp_acceptance(run.model, batch, run.config)
    run.metrics.append(record)
    if run.events is not None:
        run.events.add(record)
    run.sink.advance(1, tokens=result.n_tokens)
    if result.skipped:
        _report_skipped(run, batch, result, limits)
    elif _is_shown(run):
        run.sink.note(step_line(run, record))


def _is_shown(run: Run) -> bool:
    """Whether the step has a line for people, and the figures that are too many for each step."""
    return run.progress.step % run.config.log_every == 0 or run.progress.step == run.config.steps


def load_by_domain(
    result: StepResult, batch: Batch, domains: Sequence[str]
) -> dict[str, list[list[float]]]:
    """Relative load of each layer's experts, of each domain in the batch."""
    return {
        domains[domain]: [relative(load_GE[domain]) for load_GE in result.loads_by_domain]
        for domain in sorted(set(batch.domain_ids.tolist()))
    }


def step_record(
    run: Run, batch: Batch, result: StepResult, values: Knobs, waits: Waits
) -> dict[str, Any]:
    """One line of metrics.jsonl. Losses in nats, before their weights except `loss`."""
    n_bytes = target_bytes(batch, run.config, run.bytes_per_id_V.numpy())
    tokens_per_s = run.meter.rate("tokens")
    violations = [max_violation(load_E) for load_E in result.loads]
    return {
        "step": run.progress.step,
        "tokens": run.progress.tokens,
        "loss": result.loss,
        "main_loss": result.main_loss,
        "mtp_loss": result.mtp_loss if run.model.mtp is not None else None,
        "balance_loss": result.balance_loss,
        "loss_by_domain": loss_by_domain(
            result.row_losses_B, result.row_targets_B, batch.domain_ids, run.domains
        ),
        "bits_per_byte": bits_per_byte(result.main_loss, result.n_targets, n_bytes),
        "rows": len(batch.n_tokens),
        "lr": values.lr,
        "grad_norm": result.grad_norm,
        "tokens_per_s": tokens_per_s,
        "tflop_per_s": tflop_per_s(tokens_per_s, run.flop_per_token),
        "data_wait_s": waits.data_s,
        "checkpoint_wait_s": waits.checkpoint_s,
        "nodes_per_token": finite_or_none(result.nodes_per_token),
        "max_violation": max(violations, default=0.0),
        "max_violation_by_layer": violations,
        "skipped": bool(result.skipped),
    }


def step_line(run: Run, record: dict[str, Any]) -> str:
    """`step 4/20  loss 7.12  bpb 2.31  lr 1.2e-03  tok/s 5,210  wait 0.3 ms  load 1.42  ETA 1:03`

    wait is the step's for its rows, load that of the fullest expert over the mean.
    """
    share = utilisation(record["tflop_per_s"], run.config.cost.peak_tflop_per_s)
    used = "" if share is None else f"MFU {share:.1%}  "
    return (
        f"step {run.progress.step}/{run.config.steps}  loss {record['main_loss']:.2f}  "
        f"bpb {record['bits_per_byte']:.2f}  lr {record['lr']:.1e}  "
        f"tok/s {record['tokens_per_s']:,.0f}  {used}wait {1000 * record['data_wait_s']:.1f} ms  "
        f"load {record['max_violation'] + 1:.2f}  "
        f"ETA {clock(run.meter.remaining_seconds() or 0)}"
    )


def _report_skipped(run: Run, batch: Batch, result: StepResult, limits: StepLimits) -> None:
    """Name rows and documents and what each lost; stop when it happens too often in a row."""
    row_ids = batch.row_ids.tolist()
    documents, problem = _look_into(run, batch)
    run.skipped_steps.append(
        {
            "step": run.progress.step,
            "reason": result.skipped,
            "loss": result.loss,
            "main_loss": result.main_loss,
            "grad_norm": result.grad_norm,
            "loss_limit": limits.loss,
            "grad_norm_limit": limits.grad_norm,
            "row_ids": row_ids,
            "row_losses": [finite_or_none(loss) for loss in result.row_losses_B.tolist()],
            "documents": [document.to_tree() for document in documents],
            "documents_problem": problem,
        }
    )
    for line in to_quarantine(documents, run.progress.step):
        run.quarantine.append(line)
    run.sink.note(
        f"WARNING step {run.progress.step} skipped ({result.skipped}): loss {result.loss}, "
        f"gradient norm {result.grad_norm} (rows {row_ids}); weights unchanged"
    )
    suspects = [document for document in documents if document.stands_out]
    for document in suspects[:_SUSPECTS_SHOWN]:
        run.sink.note(
            f"  suspect: {document.source} at {document.position} "
            f"({', '.join(document.stands_out)}, loss {document.loss})"
        )
    if run.progress.skipped_in_row >= run.config.max_skipped_in_row:
        raise BadInput(
            f"{run.progress.skipped_in_row} steps in a row had a loss or gradient that is not "
            "finite or far beyond those before",
            where=f"step {run.progress.step}, rows {row_ids} ({run.skipped_steps.path})",
            effect="training stopped; no skipped step changed a weight, checkpoints are intact",
            fix="lower optimizer.lr, raise spike.z if these losses are as they should be, or leave "
            f"documents of that file out with `dsv3data pack --exclude {run.quarantine.path}`",
        )


def _look_into(run: Run, batch: Batch) -> tuple[list[DocumentFinding], str]:
    """The batch's documents under the weights that it did not change; nothing here may end a run,
    so damaged lineage is only a remark."""
    if run.lineage is None:
        return [], "these rows have no lineage"
    try:
        return examine(run.model, batch, run.domains, run.lineage, run.config), ""
    except Dsv3DataError as error:
        return [], f"{error.what} ({error.where})"


def _save(run: Run, writer: CheckpointWriter) -> float:
    """Hand the run over to the writer; seconds that the loop stood still for it."""
    standing = Meter()
    run.progress.loader = dict(run.stream.state())
    writer.save(contents_of(run.model, run.optimizer, run.progress, run.config, run.average))
    return standing.seconds


def _stopped(run: Run, stop: StopRequest) -> Stopped:
    return Stopped(
        f"stopped by {stop.signal_name} after step {run.progress.step} of {run.config.steps}",
        where=str(run.checkpoints),
        effect="every finished step is in the newest checkpoint",
        fix="run the same command again to continue",
    )
