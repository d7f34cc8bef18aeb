"""Our writer of .safetensors files against its slow twin."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import safetensors.torch
import torch

from dsv3data.training.tensor_file import write_tensors


def random_tensor(rng: random.Random) -> torch.Tensor:
    shape = [rng.randint(0, 4) for _ in range(rng.randint(0, 3))]
    values = torch.randn(shape) * 100
    tensor = values.to(rng.choice([torch.float32, torch.bfloat16, torch.int64]))
    return tensor.T if tensor.dim() == 2 and rng.random() < 0.5 else tensor


def test_the_bytes_are_those_of_the_slow_twin(tmp_path: Path) -> None:
    rng = random.Random(0)
    transposed = empty = 0
    for case in range(60):
        names = rng.sample(['a"b', "b", "B.0", "é", "steps", "z.1.weight", "z.10.weight"], 5)
        tensors = {name: random_tensor(rng) for name in names}
        transposed += any(not tensor.is_contiguous() for tensor in tensors.values())
        empty += any(tensor.numel() == 0 for tensor in tensors.values())
        expected = safetensors.torch.save({n: t.contiguous() for n, t in tensors.items()})
        path = tmp_path / f"{case}.safetensors"
        described = write_tensors(path, tensors)
        assert path.read_bytes() == expected
        assert described == {
            "size": len(expected),
            "sha256": hashlib.sha256(expected).hexdigest(),
        }
    assert transposed > 5
    assert empty > 5
