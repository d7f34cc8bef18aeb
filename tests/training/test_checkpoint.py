"""Checkpoints: what is verified, what is passed over, what is refused."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dsv3data.contracts.config import config_hash
from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.training.checkpoint import list_checkpoints, load_weights, verify_checkpoint
from dsv3data.training.ema import WeightAverage
from tiny_training import CONFIG, MODEL, Notes, train_tiny


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def rewrite_state(path: Path, **changes: object) -> None:
    """A state.json that is valid again after changes; `...` removes a key."""
    state = json.loads((path / "state.json").read_text())
    del state["state_sha256"]
    state = {key: value for key, value in (state | changes).items() if value is not ...}
    (path / "state.json").write_text(json.dumps(state | {"state_sha256": config_hash(state)}))


def newest(out: Path) -> Path:
    return list_checkpoints(out / "checkpoints")[0]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_only_the_newest_k_stay(tmp_path: Path) -> None:
    train_tiny(tmp_path / "out", steps=9, checkpoint=replace(CONFIG.checkpoint, every=2, keep=2))
    names = [path.name for path in list_checkpoints(tmp_path / "out" / "checkpoints")]
    assert names == ["step-00000009", "step-00000008"]
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2


def test_state_says_what_it_belongs_to(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    state = verify_checkpoint(newest(tmp_path))
    assert (state["step"], state["format"]) == (4, 2)
    assert state["loader"] == {"root": "fake-root", "seed": 0, "consumed": 16}
    assert state["config"]["model"]["d_model"] == 16
    assert state["torch"] == torch.__version__


def test_resume_is_bitwise_the_unbroken_run(tmp_path: Path) -> None:
    train_tiny(tmp_path / "whole", steps=8)
    for steps in (3, 4, 7, 8):  # in pieces, also exactly at a periodic checkpoint
        train_tiny(tmp_path / "pieces", steps=steps)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")
    for name in ("model.safetensors", "optimizer.safetensors"):
        whole, pieces = newest(tmp_path / "whole") / name, newest(tmp_path / "pieces") / name
        assert whole.read_bytes() == pieces.read_bytes()


def test_verifying_takes_little_memory(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    path = newest(tmp_path)
    with (path / "model.safetensors").open("ab") as file:
        file.truncate(64 << 20)  # a hole: nothing is written
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="has 67,108,864 bytes, not "):
        verify_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_weights_of_a_checkpoint_can_be_read_alone(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    weights = load_weights(newest(tmp_path))
    assert weights["embedding.weight"].shape == (128, 16)
    assert weights["blocks.1.ffn.router.bias_E"].abs().max() > 0


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit of the weights": (
        lambda path: flip(path / "model.safetensors"),
        "model.safetensors does not have its SHA-256",
    ),
    "cut moments": (
        lambda path: (path / "optimizer.safetensors").write_bytes(b"cut"),
        "optimizer.safetensors has 3 bytes, not ",
    ),
    "missing weights": (
        lambda path: (path / "model.safetensors").unlink(),
        "model.safetensors cannot be read: No such file or directory",
    ),
    "missing state": (
        lambda path: (path / "state.json").unlink(),
        "state.json cannot be read: No such file or directory",
    ),
    "no JSON": (lambda path: (path / "state.json").write_text("{"), "state.json is not JSON"),
    "other JSON": (
        lambda path: (path / "state.json").write_text("[]"),
        "state.json has no format version",
    ),
    "changed step": (
        lambda path: (path / "state.json").write_text(
            (path / "state.json").read_text().replace('"step": 8', '"step": 6')
        ),
        "state.json does not have its SHA-256",
    ),
}


@pytest.fixture(scope="module")
def eight_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps, to be copied."""
    out = tmp_path_factory.mktemp("eight")
    train_tiny(out, steps=8)
    return out


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_newest_checkpoint_is_passed_over_loudly(
    damage: Callable[[Path], object], message: str, eight_steps: Path, tmp_path: Path
) -> None:
    shutil.copytree(eight_steps, tmp_path, dirs_exist_ok=True)
    reference = losses(tmp_path)
    damage(newest(tmp_path))
    with pytest.raises(IntegrityError) as caught:
        train_tiny(tmp_path, steps=8, strict=True)
    assert caught.value.what.startswith(message)
    assert caught.value.effect == "this checkpoint is not used"

    notes = Notes()
    train_tiny(tmp_path, notes, steps=8)
    assert f"WARNING damaged checkpoint passed over: {message}" in notes.text
    assert "resumed from" in notes.text
    assert "step-00000004" in notes.text
    assert losses(tmp_path) == reference
    assert (tmp_path / "checkpoints" / "step-00000008.1.old").exists()
    verify_checkpoint(newest(tmp_path))


def test_nothing_starts_over_silently_when_all_are_damaged(
    eight_steps: Path, tmp_path: Path
) -> None:
    shutil.copytree(eight_steps, tmp_path, dirs_exist_ok=True)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        flip(path / "model.safetensors")
    with pytest.raises(IntegrityError) as caught:
        train_tiny(tmp_path, steps=8)
    assert caught.value.what.startswith("all 2 checkpoints are damaged; the newest: model")
    assert "--fresh" in caught.value.fix


def test_a_checkpoint_of_another_model_is_refused_with_the_keys(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    before = newest(tmp_path).stat().st_mtime_ns
    with pytest.raises(BadConfig) as caught:
        train_tiny(tmp_path, steps=8, model=replace(MODEL, d_ff_dense=48, routed_scale=1.0))
    assert caught.value.what == (
        "the checkpoint is of another model: model.d_ff_dense: 32 → 48; model.routed_scale: "
        "2.5 → 1.0"
    )
    assert newest(tmp_path).stat().st_mtime_ns == before


def test_other_changes_of_the_config_are_named_and_allowed(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    notes = Notes()
    train_tiny(tmp_path, notes, steps=6, optimizer=replace(CONFIG.optimizer, lr=1e-3))
    assert "config differs from the checkpoint: optimizer.lr: 0.01 → 0.001" in notes.lines
    assert "config differs from the checkpoint: steps: 4 → 6" in notes.lines


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    rewrite_state(newest(tmp_path), format=3)
    with pytest.raises(BadInput) as caught:
        train_tiny(tmp_path, steps=8)
    assert caught.value.what == "the checkpoint has format 3; this version reads 2"
    assert caught.value.fix == "upgrade dsv3data, or start over with --fresh"


def test_other_data_are_refused_by_the_stream(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    rewrite_state(newest(tmp_path), loader={"root": "other", "seed": 0, "consumed": 16})
    with pytest.raises(BadInput, match="the stream's root is 'fake-root', not 'other'"):
        train_tiny(tmp_path, steps=8)


def test_fresh_moves_the_old_output_aside(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_tiny(out, steps=4)
    notes = Notes()
    train_tiny(out, notes, steps=2, fresh=True)
    assert (tmp_path / "run.1.old" / "checkpoints" / "step-00000004").is_dir()
    assert newest(out).name == "step-00000002"
    assert f"earlier output moved to {out}.1.old" in notes.lines


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    left = tmp_path / "checkpoints" / ".step-00000008.99999.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    train_tiny(tmp_path, steps=8)
    assert not left.exists()


def test_a_checkpoint_of_format_1_is_read(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    rewrite_state(newest(tmp_path), format=1, recent=...)
    train_tiny(tmp_path, steps=8)
    assert newest(tmp_path).name == "step-00000008"


# The moving average of the weights


def test_the_average_follows_the_weights_and_resumes_bitwise(tmp_path: Path) -> None:
    train_tiny(tmp_path / "whole", steps=8, ema_decay=0.5)
    train_tiny(tmp_path / "parts", steps=4, ema_decay=0.5)
    train_tiny(tmp_path / "parts", steps=8, ema_decay=0.5)
    whole, parts = (
        load_weights(newest(tmp_path / name), average=True) for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    weights = load_weights(newest(tmp_path / "whole"))
    assert whole.keys() == weights.keys()
    assert not torch.equal(whole["head.weight"], weights["head.weight"])


def test_the_average_is_its_recursion() -> None:
    model = nn.Linear(3, 2, bias=False)
    average = WeightAverage(model, 0.9)
    expected = model.weight.detach().clone()
    for _ in range(5):
        with torch.no_grad():
            model.weight += 1.0
        average.update(model)
        expected = 0.9 * expected + 0.1 * model.weight.detach()
    torch.testing.assert_close(average.state()["weight"], expected)


def test_a_run_without_an_average_says_so(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    with pytest.raises(BadInput, match="the checkpoint has no average of the weights"):
        load_weights(newest(tmp_path), average=True)
    # One that begins to keep it starts from the weights.
    train_tiny(tmp_path, steps=8, ema_decay=0.5)
    assert load_weights(newest(tmp_path), average=True)
