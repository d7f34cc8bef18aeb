"""A training run of well under a second, and a child process that trains it.

    python tests/helpers/tiny_training.py OUT STEPS [SIGNAL …]

gets signals of these numbers before its sixth batch. It exits like the command line would: 0, or
the exit code of the error.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dsv3data.contracts.errors import Dsv3DataError
from dsv3data.contracts.progress import NullSink
from dsv3data.model.config import ModelConfig
from dsv3data.training.config import (
    BalanceConfig,
    CheckpointConfig,
    DataConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from dsv3data.training.run import TrainResult, train_on
from fake_training_data import FakeBatch, FakeDataset, FakeStream
from held import wait_until

MODEL = ModelConfig(
    vocab_size=0,
    context=0,
    n_layers=2,
    n_dense_layers=1,
    d_model=16,
    d_ff_dense=32,
    n_heads=2,
    q_lora_rank=8,
    kv_lora_rank=8,
    d_qk_nope=4,
    d_qk_rope=4,
    d_v=8,
    n_routed_experts=8,
    d_expert=8,
    top_k=2,
    n_groups=4,
    top_k_groups=2,
    init_std=0.02,
)

CONFIG = TrainConfig(
    model=MODEL,
    optimizer=OptimizerConfig(lr=1e-2),
    schedule=ScheduleConfig(warmup_steps=2),
    balance=BalanceConfig(gamma=0.01),
    checkpoint=CheckpointConfig(every=4, keep=3),
    steps=8,
    batch_rows=4,
    log_every=4,
    threads=1,
)


class Notes(NullSink):
    """Keeps what a person would have read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class SignallingStream(FakeStream):
    """Gives five batches; before the sixth, and not before that folder is there, its process gets
    these signals, one after the other.

    In the main thread, which handles each before the next: so without a `Prefetcher`.
    """

    def __init__(self, dataset: FakeDataset, numbers: Sequence[int], *, after: Path) -> None:
        super().__init__(dataset, seed=0)
        self._numbers = [*numbers]
        self._after = after

    def next(self, n: int) -> FakeBatch:
        while self.consumed >= 5 * n and self._numbers:
            wait_until(self._after.exists)
            signal.raise_signal(self._numbers.pop(0))
        return super().next(n)


def train_tiny(
    out: Path, sink: Any = None, *, stream: FakeStream | None = None, **changes: Any
) -> TrainResult:
    """Train on fake rows; `changes` are fields of TrainConfig or the options of `train_on`."""
    names = ("fresh", "strict", "dry_run", "tensorboard", "start_from")
    options = {key: changes.pop(key) for key in names if key in changes}
    dataset = FakeDataset()
    return train_on(
        dataset,
        stream or FakeStream(dataset, seed=0),
        replace(CONFIG, **changes),
        out=out,
        sink=sink or NullSink(),
        **options,
    )


def main() -> int:
    out, steps = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    numbers, changes = [int(number) for number in sys.argv[3:]], dict[str, Any]()
    if numbers:
        first = out / "checkpoints" / "step-00000004"
        stream = SignallingStream(FakeDataset(), numbers, after=first)
        changes = {"stream": stream, "data": DataConfig(prefetch=0)}
    try:
        train_tiny(out, steps=steps, **changes)
    except Dsv3DataError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
