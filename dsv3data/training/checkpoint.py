"""Checkpoints: complete or absent, verified before use, never a pickle.

OUT/checkpoints/step-00000050/
    model.safetensors       weights and router biases
    optimizer.safetensors   moments and step counts under parameter names
    average.safetensors     moving average of the weights, if the run keeps one
    state.json              the rest, with size and SHA-256 of those above and of itself
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dsv3data.contracts.config import config_hash, differences, from_dict, to_dict
from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import (
    atomic_folder,
    environment_faults,
    make_folder,
    remove_partials,
    set_aside,
)
from dsv3data.io.manifest_file import hash_file
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.ema import WeightAverage
from dsv3data.training.optimizer import AdamW
from dsv3data.training.tensor_file import write_tensors

FORMAT_VERSION = 2
_NAME = re.compile(r"step-\d{8,}")
_MODEL, _OPTIMIZER, _AVERAGE = (
    "model.safetensors",
    "optimizer.safetensors",
    "average.safetensors",
)


@dataclass(kw_only=True)
class Progress:
    """Where a run stands, besides weights and moments."""

    step: int = 0  # steps finished, skipped ones included
    tokens: int = 0  # valid tokens of those steps
    skipped_in_row: int = 0
    recent: list[list[float]] = field(default_factory=list)  # (loss, gradient norm), see `spikes`
    loader: dict[str, Any] = field(default_factory=dict)


Tensors = dict[str, dict[str, Tensor]]  # by file, by name


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a checkpoint holds.

    `state` (step, tokens, loader, random state, config) is a copy; `tensors` are those that the
    next step changes.
    """

    step: int
    tensors: Tensors
    state: dict[str, Any]


def contents_of(
    model: Transformer,
    optimizer: AdamW,
    progress: Progress,
    config: TrainConfig,
    average: WeightAverage | None = None,
) -> Contents:
    """The run as it stands between two steps."""
    tensors = {_MODEL: dict(model.state_dict()), _OPTIMIZER: optimizer.state()}
    if average is not None:
        tensors[_AVERAGE] = average.state()
    return Contents(step=progress.step, tensors=tensors, state=_describe(progress, config))


def write_checkpoint(folder: Path, contents: Contents, *, keep: int) -> Path:
    """Publish `folder`/step-NNNNNNNN, then delete all but the newest `keep`.

    Raises:
        EnvironmentFault: it cannot be written; earlier checkpoints are intact.
    """
    make_folder(folder)
    path = folder / f"step-{contents.step:08d}"
    with atomic_folder(path) as partial:
        files = {
            name: write_tensors(partial / name, group) for name, group in contents.tensors.items()
        }
        state = contents.state | {"files": files}
        state |= {"state_sha256": config_hash(state)}
        (partial / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    _delete_old(folder, keep)
    return path


def resume(
    folder: Path,
    model: Transformer,
    optimizer: AdamW,
    config: TrainConfig,
    sink: Sink,
    *,
    strict: bool,
    average: WeightAverage | None = None,
) -> Progress | None:
    """Load the newest verified checkpoint into model and optimizer; None if there is none at all.

    A damaged one is named, set aside and passed over. An average that the checkpoint does not hold
    starts from its weights.

    Raises:
        IntegrityError: all are damaged, or one is and `strict` is set.
        BadConfig: the checkpoint is of another model.
        BadInput: it was written by a newer format.
    """
    if folder.is_dir():
        remove_partials(folder)
    found = _newest_verified(folder, sink, strict=strict)
    if found is None:
        return None
    path, state = found
    _check_config(state, config, path, sink)
    _load(path, state, model, optimizer)
    if average is not None:
        kept = _AVERAGE if _AVERAGE in state["files"] else _MODEL
        average.restore(safetensors.torch.load_file(path / kept))
    sink.note(f"resumed from {path} (step {state['step']:,}, {state['tokens']:,} tokens)")
    return Progress(
        step=state["step"],
        tokens=state["tokens"],
        skipped_in_row=state["skipped_in_row"],
        recent=state.get("recent", []),  # format 1 has none
        loader=state["loader"],
    )


def _newest_verified(
    folder: Path, sink: Sink, *, strict: bool
) -> tuple[Path, dict[str, Any]] | None:
    damaged: list[IntegrityError] = []
    for path in list_checkpoints(folder):
        try:
            return path, verify_checkpoint(path)
        except IntegrityError as error:
            if strict:
                raise
            aside = set_aside(path)
            sink.note(f"WARNING damaged checkpoint passed over: {error.what} ({aside})")
            damaged.append(error)
    if not damaged:
        return None
    raise IntegrityError(
        f"all {len(damaged)} checkpoints are damaged; the newest: {damaged[0].what}",
        where=str(folder),
        effect="nothing was trained; the damaged ones were set aside as *.old",
        fix="restore one from a backup, or start over with --fresh",
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """Published checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=_step_of, reverse=True)


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Check every byte, 1 MiB at a time, and return state.json.

    Raises:
        IntegrityError: a file is missing, cut or changed.
        BadInput: a newer format.
    """
    state = _read_state(path)
    for name, expected in state["files"].items():
        file = path / name
        try:
            size, sha256 = hash_file(file)
        except OSError as error:
            raise _damaged(f"{name} cannot be read: {error.strerror}", file) from error
        if size != expected["size"]:
            raise _damaged(f"{name} has {size:,} bytes, not {expected['size']:,}", file)
        if sha256 != expected["sha256"]:
            raise _damaged(f"{name} does not have its SHA-256", file)
    return state


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint for commands that only read it: verified byte by byte."""

    path: Path
    config: TrainConfig
    step: int
    tokens: int
    loader: dict[str, Any]  # state of the stream after that step

    def weights(self, *, average: bool = False) -> dict[str, Tensor]:
        """As `load_weights`."""
        return load_weights(self.path, average=average)


def newest_checkpoint(run: Path) -> Checkpoint:
    """The newest checkpoint of the training run in `run`.

    Raises:
        BadInput: there is none.
        IntegrityError: it is damaged.
    """
    found = list_checkpoints(run / "checkpoints")
    if not found:
        raise BadInput(
            "there is no checkpoint of a training run",
            where=str(run / "checkpoints"),
            effect="nothing was loaded",
            fix="give the folder that `dsv3data train --out` wrote, after its first checkpoint",
        )
    return read_checkpoint(found[0])


def checkpoint_before(run: Path, step: int) -> Checkpoint | None:
    """The newest checkpoint of the run whose weights have not seen step number `step`.

    Raises:
        IntegrityError: it is damaged.
    """
    for path in list_checkpoints(run / "checkpoints"):
        if _step_of(path) < step:
            return read_checkpoint(path)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Verify a checkpoint.

    Raises:
        IntegrityError: it is damaged.
    """
    state = verify_checkpoint(path)
    return Checkpoint(
        path=path,
        config=from_dict(TrainConfig, state["config"], where=str(path)),
        step=state["step"],
        tokens=state["tokens"],
        loader=state["loader"],
    )


def load_weights(path: Path, *, average: bool = False) -> dict[str, Tensor]:
    """Verify a checkpoint and return its model weights, router biases included, or their average.

    Raises:
        IntegrityError: it is damaged.
        BadInput: the run keeps no average.
    """
    state = verify_checkpoint(path)
    if average and _AVERAGE not in state["files"]:
        raise BadInput(
            "the checkpoint has no average of the weights",
            where=str(path),
            effect="nothing was loaded",
            fix="take the weights themselves, or train with --set ema_decay=0.999",
        )
    return safetensors.torch.load_file(path / (_AVERAGE if average else _MODEL))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _describe(progress: Progress, config: TrainConfig) -> dict[str, Any]:
    """state.json, but for the files."""
    return {
        "format": FORMAT_VERSION,
        **asdict(progress),
        "rng_cpu": base64.b64encode(bytes(torch.get_rng_state().tolist())).decode(),
        "config": to_dict(config),
        "config_hash": config_hash(config),
        "torch": torch.__version__,
    }


def _read_state(path: Path) -> dict[str, Any]:
    file = path / "state.json"
    try:
        state = json.loads(file.read_bytes())
    except OSError as error:
        raise _damaged(f"state.json cannot be read: {error.strerror}", file) from error
    except ValueError as error:
        raise _damaged("state.json is not JSON", file) from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise _damaged("state.json has no format version", file)
    if state["format"] > FORMAT_VERSION:
        raise BadInput(
            f"the checkpoint has format {state['format']}; this version reads {FORMAT_VERSION}",
            where=str(path),
            effect="nothing was loaded or changed",
            fix="upgrade dsv3data, or start over with --fresh",
        )
    written_hash = state.pop("state_sha256", None)
    if written_hash != config_hash(state):
        raise _damaged("state.json does not have its SHA-256", file)
    return state


def _check_config(state: Mapping[str, Any], config: TrainConfig, path: Path, sink: Sink) -> None:
    """Another model is refused; other differences are allowed and named."""
    old, new = state["config"], to_dict(config)
    model_lines = differences(old["model"], new["model"], prefix="model.")
    if model_lines:
        raise BadConfig(
            "the checkpoint is of another model: " + "; ".join(model_lines),
            where=str(path),
            effect="nothing was loaded or changed",
            fix="use the checkpoint's config, another --out, or start over with --fresh",
        )
    for line in differences(old, new):
        sink.note(f"config differs from the checkpoint: {line}")


def _load(path: Path, state: Mapping[str, Any], model: Transformer, optimizer: AdamW) -> None:
    model.load_state_dict(safetensors.torch.load_file(path / _MODEL))
    optimizer.restore(safetensors.torch.load_file(path / _OPTIMIZER))
    rng_bytes = base64.b64decode(state["rng_cpu"])
    torch.set_rng_state(torch.tensor(list(rng_bytes), dtype=torch.uint8))


def _delete_old(folder: Path, keep: int) -> None:
    for path in list_checkpoints(folder)[keep:]:
        with environment_faults(path):
            # Renamed first: a kill while deleting must not leave half a checkpoint under its name.
            doomed = path.with_name(f".{path.name}.partial")
            path.rename(doomed)
            shutil.rmtree(doomed)


def _damaged(what: str, where: Path) -> IntegrityError:
    return IntegrityError(
        what,
        where=str(where),
        effect="this checkpoint is not used",
        fix="without --strict an older checkpoint is used; --fresh starts over",
    )
