"""The figures of a run as event files for TensorBoard, written by its own package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsv3data.contracts.errors import EnvironmentFault

# Where a figure of metrics.jsonl stands in TensorBoard.
_TAGS = {
    "main_loss": "loss/next token",
    "mtp_loss": "loss/token after next",
    "loss": "loss/total",
    "balance_loss": "loss/balance before alpha",
    "bits_per_byte": "loss/bits per byte",
    "grad_norm": "step/gradient norm",
    "lr": "step/learning rate",
    "rows": "step/rows",
    "mtp_acceptance": "loss/guesses accepted",
    "nodes_per_token": "experts/nodes per token",
    "max_violation": "experts/worst violation of balance",
    "tokens_per_s": "speed/tokens per second",
    "data_wait_s": "speed/seconds waiting for data",
    "checkpoint_wait_s": "speed/seconds waiting for a checkpoint",
}


def require_tensorboard() -> None:
    """Say what to install, where it is missing.

    Raises:
        EnvironmentFault: it is.
    """
    if find_spec("tensorboard") is None:
        raise EnvironmentFault(
            "--tensorboard needs the package tensorboard, not installed here",
            where="this Python environment",
            effect="nothing was started",
            fix="pip install 'dsv3data[tensorboard]', or leave --tensorboard away: "
            "metrics.jsonl has the same figures",
        )


class EventFiles:
    """Writes each step's figures into `folder`; a resumed run hides what came after its step.

    Args:
        first_step: the next one to be written.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        # Seconds to import.
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def add(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; figures that were not measured or not finite are left out."""
        figures = {tag: record.get(name) for name, tag in _TAGS.items()}
        for domain, loss in record["loss_by_domain"].items():
            figures[f"loss by domain/{domain}"] = loss
        for layer, violation in enumerate(record["max_violation_by_layer"]):
            figures[f"experts/violation of layer {layer}"] = violation
        for tag, value in figures.items():
            if value is not None and math.isfinite(value):
                self._writer.add_scalar(tag, value, record["step"])

    def close(self) -> None:
        """Write out what is buffered."""
        self._writer.close()
