"""From a step that was skipped to documents that are packed no more; and steps replayed."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.stream import SequenceStream
from dsv3data.packing.config import PackConfig
from dsv3data.training.config import CheckpointConfig, SpikeConfig
from dsv3data.training.postmortem import DocumentFinding, Lineage, to_quarantine
from dsv3data.training.repetition import repetition
from dsv3data.training.replay import replay_step
from dsv3data.training.run import run_training
from dsv3data_cli.main import run as command
from tiny_data import pack_tiny, tokenize_tiny, write_texts
from tiny_training import CONFIG, Notes

N_DOCUMENTS, NOISE, REPEATED = 48, 17, 23  # the last two are numbers of hostile documents
STEPS = 70
RUN = replace(
    CONFIG,
    steps=STEPS,
    batch_rows=1,
    max_skipped_in_row=STEPS,
    spike=SpikeConfig(z=30.0, window=16),
    checkpoint=CheckpointConfig(every=7, keep=STEPS),
)


@pytest.fixture(scope="module")
def packed(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of documents that are easy to predict, one of noise, and one that repeats a word."""
    folder = tmp_path_factory.mktemp("poisoned")
    chance = random.Random(4)
    texts = [
        f"The river number {n} runs from the hill to the sea. " * 8 for n in range(N_DOCUMENTS)
    ]
    texts[NOISE] = "".join(chr(chance.randrange(0x4E00, 0x9FA0)) for _ in range(100))
    texts[REPEATED] = "again " * 300
    write_texts(folder / "rivers.jsonl", texts)
    tokens = tokenize_tiny(folder / "rivers.jsonl", tiny_tokenizer, folder / "tokens")
    return pack_tiny(tokens, folder / "packed", config=PackConfig(context=128, fim_rate=0.0))


@pytest.fixture(scope="module")
def run(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("poisoned-run") / "run"
    config = replace(RUN, seed=seed_with_noise_late(packed))
    run_training(config, data=packed, out=out, sink=NullSink())
    return out


def seed_with_noise_late(packed: Path) -> int:
    """The first seed whose order of rows lets the model learn the others first."""
    dataset = PackedDataset.open(packed)
    lineage = Lineage(dataset)
    ids = dataset.rows(np.arange(dataset.n_rows)).row_ids.tolist()
    position = position_of(packed, NOISE)
    noisy = [any(piece.position == position for piece in lineage.pieces(id_)) for id_ in ids]
    for seed in range(1000):
        order = SequenceStream(dataset, seed=seed).row_numbers(dataset.n_rows)[:STEPS]
        places = np.flatnonzero(np.array(noisy)[order])
        if len(places) and places.min() > STEPS // 2:
            return seed
    raise AssertionError("no such seed")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def position_of(packed: Path, number: int) -> int:
    """Byte offset of a line: the document's position."""
    lines = (packed.parent / "rivers.jsonl").read_bytes().split(b"\n")
    return sum(len(line) + 1 for line in lines[:number])


def positions_in(packed: Path) -> set[int]:
    tables = [pq.read_table(path, columns=["position"]) for path in packed.glob("lineage-*")]
    return {position for table in tables for position in table["position"].to_pylist()}


def test_from_a_spike_to_rows_without_its_cause(packed: Path, run: Path, tmp_path: Path) -> None:
    hostile = {position_of(packed, number) for number in (NOISE, REPEATED)}
    skipped = records(run / "skipped_steps.jsonl")
    assert len(skipped) >= 2
    for step in skipped:
        here = {document["position"] for document in step["documents"]}
        assert here & hostile
        assert step["documents_problem"] == ""
        assert {document["row_id"] for document in step["documents"]} == set(step["row_ids"])
    by_position = {one["position"]: one for step in skipped for one in step["documents"]}
    assert by_position[position_of(packed, REPEATED)]["repetition"]["repeated"] > 0.9
    quarantine = run / "quarantine.jsonl"
    assert {line["position"] for line in records(quarantine)} == hostile

    assert hostile < positions_in(packed)
    clean = tmp_path / "clean"
    words = ["pack", packed.parent / "tokens", "--exclude", quarantine, "--out", clean]
    options = ["--context", "128", "--fim-rate", "0", "--workers", "1", "--quiet"]
    assert command([*map(str, words), *options]) == 0
    assert positions_in(clean) == positions_in(packed) - hostile


def test_replay_rebuilds_the_batch_and_its_losses(packed: Path, run: Path) -> None:
    """Behind a checkpoint the weights are those that the step had."""
    log = records(run / "metrics.jsonl")
    skipped = {step["step"]: step for step in records(run / "skipped_steps.jsonl")}
    exact = next(step for step in (8, 15, 22, 29) if step not in skipped)
    for step in {exact, *list(skipped)[:2]}:
        replay = replay_step(run, data=packed, step=step)
        assert replay.recorded == log[step - 1]
        assert replay.weights_step == (step - 1) // 7 * 7
        if step in skipped:
            assert list(replay.row_ids) == skipped[step]["row_ids"]
    replay = replay_step(run, data=packed, step=exact)
    targets = [one.n_tokens - (place == 0) for place, one in enumerate(replay.documents)]
    losses = [one.loss for one in replay.documents]
    assert None not in losses
    mean = np.average(np.array(losses, dtype=float), weights=targets)
    assert mean == pytest.approx(replay.recorded["main_loss"], rel=1e-5)


def test_replay_reads_documents_apart_where_the_run_did(packed: Path, tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        steps=3,
        batch_rows=16,
        document_mask=True,
        checkpoint=CheckpointConfig(every=1, keep=3),
    )
    run_training(config, data=packed, out=tmp_path, sink=NullSink())
    replay = replay_step(tmp_path, data=packed, step=3)
    assert replay.weights_step == 2
    predicted = [one for one in replay.documents if one.n_tokens > 1]
    assert len(predicted) > len(replay.row_ids)  # rows of several documents are among them
    losses = [one.loss for one in predicted]
    assert None not in losses
    targets = [one.n_tokens - 1 for one in predicted]  # nothing predicts a document's first token
    mean = np.average(np.array(losses, dtype=float), weights=targets)
    assert mean == pytest.approx(replay.recorded["main_loss"], rel=1e-5)


def test_replay_without_a_checkpoint_before_takes_the_initial_weights(
    packed: Path, run: Path
) -> None:
    replay = replay_step(run, data=packed, step=1)
    assert (replay.weights_step, replay.checkpoint) == (0, None)
    assert all(abs((one.loss or 0) - np.log(2315)) < 0.5 for one in replay.documents)


def test_replay_on_the_command_line(
    packed: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in run.rglob("*"))
    step = records(run / "skipped_steps.jsonl")[0]["step"]
    words = ["train", "--data", str(packed), "--out", str(run), "--replay", str(step)]
    assert command(words) == 0
    shown = capsys.readouterr().out
    assert f"step {step}, skipped: loss " in shown
    assert "rivers.jsonl at " in shown
    assert command([*words, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["documents"][0]["source"] == "rivers.jsonl"
    assert len(tree["documents"][0]["key"]) == 32
    assert sorted(path for path in run.rglob("*")) == before


def test_what_cannot_be_replayed(
    packed: Path, run: Path, tiny_packed: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="the run has no step 71") as caught:
        replay_step(run, data=packed, step=STEPS + 1)
    assert "steps 1 to 70" in caught.value.where
    with pytest.raises(BadInput, match="there is no training run to replay"):
        replay_step(tmp_path, data=packed, step=1)
    with pytest.raises(BadInput, match="cannot continue from this state: root is"):
        replay_step(run, data=tiny_packed, step=1)


def test_damaged_lineage_ends_no_run(packed: Path, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "packed"
    shutil.copytree(packed, copy)
    for path in copy.glob("lineage-*"):
        path.write_bytes(b"PAR1" + path.read_bytes()[4:-1] + b"x")
    notes = Notes()
    steps = records(run / "skipped_steps.jsonl")[0]["step"]
    seed = seed_with_noise_late(packed)
    config = replace(RUN, steps=steps, seed=seed)
    result = run_training(config, data=copy, out=tmp_path / "run", sink=notes)
    assert result.steps == steps
    (line,) = records(tmp_path / "run" / "skipped_steps.jsonl")
    assert line["documents"] == []
    assert "lineage-" in line["documents_problem"]
    assert not (tmp_path / "run" / "quarantine.jsonl").exists()
    with pytest.raises(IntegrityError):
        replay_step(tmp_path / "run", data=copy, step=steps)


def test_where_nothing_stands_out_the_whole_batch_is_suspected_once() -> None:
    def document(key: str, *reasons: str) -> DocumentFinding:
        ids = np.arange(9, dtype=np.int32)
        return DocumentFinding(
            row_id=0, domain="web", source="a", position=0, key=key, piece=0, n_pieces=1,
            n_tokens=9, loss=1.0, repetition=repetition(ids), stands_out=reasons,
        )  # fmt: skip

    plain = [document("1"), document("2"), document("1")]
    assert [line["key"] for line in to_quarantine(plain, 3)] == ["1", "2"]
    assert {line["why"] for line in to_quarantine(plain, 3)} == {"in a skipped step"}
    lines = to_quarantine([*plain, document("3", "loss", "repetition")], 3)
    assert [(line["key"], line["why"]) for line in lines] == [("3", "loss, repetition")]


def test_the_data_set_knows_its_rows_by_their_ids(packed: Path) -> None:
    """What a batch calls its rows leads to their lineage."""
    dataset = PackedDataset.open(packed)
    batch = dataset.rows(np.arange(dataset.n_rows))
    lineage = Lineage(dataset)
    for row_id, lengths in zip(batch.row_ids.tolist(), batch.piece_lengths, strict=True):
        pieces = lineage.pieces(row_id)
        assert [piece.n_tokens for piece in pieces] == lengths.tolist()
