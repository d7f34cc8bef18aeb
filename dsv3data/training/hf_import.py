"""Weights in the names of the released files, from a folder: the reverse of `hf_export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsv3data.contracts.errors import BadInput
from dsv3data.model.config import ModelConfig
from dsv3data.model.hf_config import model_config
from dsv3data.model.hf_fp8 import decoded
from dsv3data.model.hf_names import import_state
from dsv3data.model.transformer import Transformer

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


def is_hf_folder(folder: Path) -> bool:
    """Whether this is a model for `transformers`, and no training run of ours."""
    file = folder / "config.json"
    return file.is_file() and "model_type" in _read_json(file)


def import_model(folder: Path) -> Transformer:
    """The model of a folder with config.json and safetensors in FP32, BF16 or FP8; fp32 here.

    Raises:
        BadInput: another architecture, or see `read_state`.
    """
    config = read_config(folder)
    model = Transformer(config)
    model.load_state_dict(read_state(folder, config))
    return model


def read_config(folder: Path) -> ModelConfig:
    """The sizes of a folder's model; what its config.json does not say has our defaults.

    Raises:
        BadInput: another architecture.
    """
    file = folder / "config.json"
    return model_config(_read_json(file), where=str(file))


def read_state(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The weights of a folder, fp32, for a model of `config`.

    Raises:
        BadInput: a tensor that is missing, has no place, has another shape or holds a number that
            is not finite: by name.
    """
    state = import_state(decoded(_read_tensors(folder)), config)
    with torch.device("meta"):
        shapes = Transformer(config).state_dict()
    for name, expected in shapes.items():
        _check_tensor(name, state[name], expected, folder)
    return state


def _check_tensor(name: str, tensor: Tensor, expected: Tensor, folder: Path) -> None:
    what = ""
    if tensor.shape != expected.shape:
        what = f"{name} is {list(tensor.shape)}, not {list(expected.shape)}"
    elif not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        what = f"{name} holds {bad:,} numbers that are not finite"
    if what:
        raise _bad(f"imported weights cannot be used: {what}", folder)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    names = [_SINGLE]
    if (folder / _INDEX).is_file():
        places = _read_json(folder / _INDEX).get("weight_map", {})
        names = sorted({str(place) for place in places.values()})
    tensors: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise _bad(f"the index names a file outside of the folder: {name!r}", folder)
        try:
            tensors |= safetensors.torch.load_file(folder / name)
        except (OSError, safetensors.SafetensorError) as error:
            raise _bad(f"{name} cannot be read: {error}", folder) from error
    return tensors


def _read_json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _bad(f"{file.name} cannot be read: {error}", file.parent) from error
    if not isinstance(tree, dict):
        raise _bad(f"{file.name} is no JSON object", file.parent)
    return tree


def _bad(what: str, where: Path) -> BadInput:
    return BadInput(
        what,
        where=str(where),
        effect="no weights were loaded",
        fix="export the model again, or download its folder anew",
    )
