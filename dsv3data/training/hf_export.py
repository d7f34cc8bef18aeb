"""A checkpoint as a folder that `transformers` loads: config.json, safetensors, the tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from dsv3data.contracts.errors import BadInput
from dsv3data.io.atomic import atomic_folder
from dsv3data.model.hf_config import hf_config
from dsv3data.model.hf_fp8 import QUANTIZATION_CONFIG, SCALE, in_fp8, is_in_fp8
from dsv3data.model.hf_names import export_state
from dsv3data.training.checkpoint import newest_checkpoint

_SHARD_BYTES = 5 << 30
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def export_model(
    run: Path,
    out: Path,
    *,
    dtype: Literal["fp32", "bf16", "fp8"] = "bf16",
    average: bool = False,
    tokenizer: Path | None = None,
) -> dict[str, int]:
    """Write the newest checkpoint of a training run to the new folder `out`.

    Router biases stay fp32, as in the released weights. The MTP module is written as layer number
    n_layers, which `transformers` passes over. FP8 is the layout of the released files: matrices of
    layers in E4M3 with scales per 128×128, the rest in BF16.

    Args:
        average: the moving average of the weights instead of the last ones.
        tokenizer: folder whose tokenizer files are copied.

    Returns:
        Name and size in bytes of each file.

    Raises:
        BadInput: no checkpoint, no average, or `out` exists.
        IntegrityError: the checkpoint is damaged.
    """
    if out.exists():
        raise BadInput(
            "the output folder exists already",
            where=str(out),
            effect="nothing was written",
            fix="give another --out, or move it away",
        )
    checkpoint = newest_checkpoint(run)
    config = checkpoint.config.model
    tensors = export_state(checkpoint.weights(average=average), config)
    with atomic_folder(out) as partial:
        settings = hf_config(config) | {"dtype": "float32" if dtype == "fp32" else "bfloat16"}
        if dtype == "fp8":
            settings["quantization_config"] = QUANTIZATION_CONFIG
        (partial / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        _write_shards(partial, dict(_stored(tensors, dtype)))
        for name in _TOKENIZER_FILES if tokenizer is not None else ():
            shutil.copyfile(Path(tokenizer or "", name), partial / name)
    return {path.name: path.stat().st_size for path in sorted(out.iterdir())}


def _stored(tensors: Mapping[str, Tensor], dtype: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if dtype == "fp8" and is_in_fp8(name):
            codes_NK, scales_rg = in_fp8(tensor)
            yield name, codes_NK
            yield name + SCALE, scales_rg
        elif dtype == "fp32" or name.endswith("e_score_correction_bias"):
            # A copy, since the MTP module's embedding and head are the main model's.
            yield name, tensor.to(torch.float32, copy=True).contiguous()
        else:
            yield name, tensor.to(torch.bfloat16, copy=True).contiguous()


def _write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """model-NNNNN-of-NNNNN.safetensors and their index; one plain file if one is enough."""
    shards = list(_shards(tensors))
    if len(shards) == 1:
        _save(shards[0], folder / "model.safetensors")
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))


def _shards(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > _SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard
