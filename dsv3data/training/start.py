"""Weights of another run, or of a folder in the names of the released ones, as the start of a new
run: how a phase of long context begins [§4.3]."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from dsv3data.contracts.config import differences
from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.manifest import TOKENIZER_NAME
from dsv3data.contracts.progress import Sink
from dsv3data.model.config import ModelConfig
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import newest_checkpoint
from dsv3data.training.config import TrainConfig
from dsv3data.training.data import Stream
from dsv3data.training.hf_import import is_hf_folder, read_config, read_state

# Fields of a model that no trained weight depends on.
_FREE = ("context", "yarn", "rope_theta", "init_std")


@dataclass(frozen=True, kw_only=True)
class _Start:
    state: Mapping[str, Tensor]
    tokenizer: str | None  # SHA-256 of its tokenizer.json; None where it is not known
    name: str


def load_start(
    model: Transformer, config: TrainConfig, start_from: Path, stream: Stream, sink: Sink
) -> None:
    """Load weights and router biases; moments stay at 0.

    Args:
        start_from: a training run, whose newest checkpoint is taken, or a folder with config.json
            and safetensors of DeepseekV3ForCausalLM in FP32, BF16 or FP8.
        stream: the rows to train on; it knows the tokenizer that made them.

    Raises:
        BadInput: no checkpoint, weights that cannot be used, or ids of another tokenizer.
        BadConfig: a model of other sizes.
        IntegrityError: the checkpoint is damaged.
    """
    found_at = _of_folder if is_hf_folder(start_from) else _of_run
    start = found_at(start_from, config.model)
    tokenizer = stream.state().get("tokenizer")
    if start.tokenizer is not None and tokenizer not in (None, start.tokenizer):
        raise BadInput(
            "the weights to start from belong to another tokenizer than the packed rows: "
            f"{start.tokenizer[:12]}… and {str(tokenizer)[:12]}… (SHA-256 of tokenizer.json)",
            where=str(start_from),
            effect="nothing was trained: an id would mean another token to these weights",
            fix="tokenize and pack with the tokenizer of these weights",
        )
    model.load_state_dict(start.state)
    sink.note(f"starting from {start.name}")
    if start.tokenizer is None:
        sink.note("WARNING the tokenizer of these weights is not known: no tokenizer.json there")


def _of_run(run: Path, model: ModelConfig) -> _Start:
    checkpoint = newest_checkpoint(run)
    _check_sizes(checkpoint.config.model, model, checkpoint.path)
    return _Start(
        state=checkpoint.weights(),
        tokenizer=checkpoint.loader.get("tokenizer"),
        name=f"{checkpoint.path} ({checkpoint.tokens:,} tokens)",
    )


def _of_folder(folder: Path, model: ModelConfig) -> _Start:
    """Released weights know nothing of the MTP module's order and input: those are the run's."""
    config = replace(
        read_config(folder), mtp_input_order=model.mtp_input_order, mtp_hidden=model.mtp_hidden
    )
    _check_sizes(config, model, folder)
    file = folder / TOKENIZER_NAME
    return _Start(
        state=read_state(folder, config),
        tokenizer=hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None,
        name=f"the imported weights in {folder}",
    )


def _check_sizes(theirs: ModelConfig, ours: ModelConfig, where: Path) -> None:
    old, new = (
        {name: value for name, value in asdict(one).items() if name not in _FREE}
        for one in (theirs, ours)
    )
    different = differences(old, new, prefix="model.")
    if different:
        raise BadConfig(
            "the weights to start from are of another model: " + "; ".join(different),
            where=str(where),
            effect="nothing was trained",
            fix=f"give the model of those weights; only {', '.join(_FREE)} may differ",
        )
