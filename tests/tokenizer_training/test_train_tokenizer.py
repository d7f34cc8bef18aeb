"""Training a tokenizer: id layout, same bytes for same text, refusals, resume, the report."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.keys import document_key
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.debias import punctuation_break_ids
from dsv3data_tokenizer.forecast import forecast
from dsv3data_tokenizer.judge.vocabulary import vocabulary_shape
from dsv3data_tokenizer.train import TokenizerResult, train_tokenizer
from folders import everything, flip_bit
from tiny_data import VOCAB_SIZE, write_jsonl, write_texts

TEXTS = [f"The {word}s were {word}ing;\n\nthen 12345 中文。" for word in ("walk", "talk", "jump")]


def train(
    inputs: Path | Sequence[Path], out: Path, *, fresh: bool = False, **config: Any
) -> TokenizerResult:
    return train_tokenizer(
        [inputs] if isinstance(inputs, Path) else inputs,
        out=out,
        config=TokenizerTrainConfig(**{"vocab_size": 280, **config}),
        sink=NullSink(),
        fresh=fresh,
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    write_texts(tmp_path / "in" / "x.jsonl", TEXTS)
    return tmp_path / "in"


def test_id_layout(tiny_tokenizer: Path) -> None:
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    by_id = {token: text for text, token in tree["model"]["vocab"].items()}
    assert sorted(by_id) == list(range(VOCAB_SIZE))
    assert [by_id[token] for token in range(3)] == [
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜▁pad▁｜>",
    ]
    alphabet = [by_id[token] for token in range(3, 259)]
    assert alphabet == sorted(alphabet)
    assert all(len(character) == 1 for character in alphabet)
    merges = [tuple(merge) for merge in tree["model"]["merges"]]
    assert len(merges) == VOCAB_SIZE - 259
    for number, (left, right) in enumerate(merges):
        assert by_id[259 + number] == left + right
    added = [(token["content"], token["id"]) for token in tree["added_tokens"]]
    assert [token for _, token in added] == [0, 1, 2, *range(VOCAB_SIZE, VOCAB_SIZE + 815)]


def test_documents_in_any_order_files_and_runs_give_the_same_tokenizer(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    lines = [
        line
        for path in sorted(tiny_corpus.iterdir())
        for line in path.read_bytes().splitlines(keepends=True)
    ]
    random.Random(1).shuffle(lines)
    middle = len(lines) // 3
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jsonl").write_bytes(b"".join(lines[:middle]))
    (tmp_path / "in" / "2.jsonl").write_bytes(b"".join(lines[middle:]))
    made = train(tmp_path / "in", tmp_path / "out", vocab_size=VOCAB_SIZE)
    name = "tokenizer.json"
    assert (made.out / name).read_bytes() == (tiny_tokenizer / name).read_bytes()
    again = train(tiny_corpus, tmp_path / "again", vocab_size=VOCAB_SIZE)
    assert read_manifest(again.out).root == read_manifest(tiny_tokenizer).root


def test_the_folder_is_proven_by_verify(tiny_tokenizer: Path) -> None:
    result = verify(tiny_tokenizer, sink=NullSink())
    assert (result.format, result.files, result.facts) == ("dsv3data.tokenizer", 6, {})
    assert result.root == read_manifest(tiny_tokenizer).root


def test_too_small_a_corpus_names_the_number_reached(small: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the corpus yields only") as caught:
        train(small, tmp_path / "out", vocab_size=5000)
    assert caught.value.exit_code == 3
    reached = int(caught.value.what.split("only ")[1].split()[0])
    assert 259 < reached < 400
    assert f"only {reached:,} entries, 5,000 were asked for" in caught.value.what
    assert f"--vocab-size {reached}" in caught.value.fix
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    exact = train(small, tmp_path / "out", vocab_size=reached)  # the advice holds where it is given
    assert exact.report["ids"] == reached + 815
    smaller = train(small, tmp_path / "smaller", vocab_size=5000, allow_smaller=True)
    assert smaller.sha256 == exact.sha256
    vocabulary = load_vocabulary(smaller.out)
    assert vocabulary.control.fim_hole == reached + 800


def test_a_finished_folder_is_reused(small: Path, tmp_path: Path) -> None:
    first = train(small, tmp_path / "out")
    assert not first.reused
    before = everything(tmp_path / "out")
    again = train(small, tmp_path / "out")
    assert again.reused
    assert (again.sha256, again.report) == (first.sha256, first.report)
    assert {k: v for k, v in everything(tmp_path / "out").items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }


def test_a_damaged_folder_is_made_again(small: Path, tmp_path: Path) -> None:
    first = train(small, tmp_path / "out")
    flip_bit(first.out / "tokenizer.json", 100, 0)
    again = train(small, tmp_path / "out")
    assert not again.reused
    assert again.sha256 == first.sha256
    verify(again.out, sink=NullSink())


def test_another_config_or_input_is_refused_and_fresh_moves_the_old(
    small: Path, tmp_path: Path
) -> None:
    train(small, tmp_path / "out")
    with pytest.raises(BadConfig, match="vocab_size: 280 → 281"):
        train(small, tmp_path / "out", vocab_size=281)
    data = (small / "x.jsonl").read_bytes()
    (small / "x.jsonl").write_bytes(data.replace(b"walk", b"wall"))
    with pytest.raises(BadConfig, match="word_counts_roots: "):
        train(small, tmp_path / "out")
    assert not train(small, tmp_path / "out", fresh=True).reused
    assert (tmp_path / "out.1.old" / "tokenizer.json").exists()


def test_input_without_a_usable_document(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl", [{"body": "a"}, {"body": "b"}])
    with pytest.raises(BadInput, match="has no usable document: all 2 records were rejected"):
        train(tmp_path / "x.jsonl", tmp_path / "out")
    (tmp_path / "y.jsonl").write_bytes(b"")
    with pytest.raises(BadInput, match="the input has no usable document"):
        train(tmp_path / "y.jsonl", tmp_path / "out2")


@pytest.mark.parametrize("size", [0, 258, (1 << 20) + 1])
def test_vocabulary_sizes_out_of_range(size: int) -> None:
    with pytest.raises(BadConfig, match="vocab_size must be from 259 to 1,048,576"):
        TokenizerTrainConfig(vocab_size=size)


@pytest.mark.parametrize("count", [-1, 1 << 32])
def test_frequencies_out_of_range(count: int) -> None:
    with pytest.raises(BadConfig, match="min_frequency must be a count of occurrences, not"):
        TokenizerTrainConfig(min_frequency=count)


@pytest.mark.parametrize("size", [-1, 1])
def test_token_lengths_out_of_range(size: int) -> None:
    with pytest.raises(BadConfig, match="max_token_bytes must be 0 or at least 2, not"):
        TokenizerTrainConfig(max_token_bytes=size)


def test_no_token_is_longer_than_asked_for(small: Path, tmp_path: Path) -> None:
    options = {"vocab_size": 500, "allow_smaller": True}
    train(small, tmp_path / "a", **options)
    train(small, tmp_path / "b", max_token_bytes=4, **options)
    lengths = [max(map(len, load_vocabulary(tmp_path / name).token_bytes)) for name in ("a", "b")]
    assert lengths[0] > 4
    assert lengths[1] == 4


def test_min_frequency_stops_rare_merges(small: Path, tmp_path: Path) -> None:
    often = train(small, tmp_path / "a", vocab_size=5000, allow_smaller=True, min_frequency=3)
    rare = train(small, tmp_path / "b", vocab_size=5000, allow_smaller=True)
    assert often.report["ids"] < rare.report["ids"]


def test_describe_reads_nothing(small: Path) -> None:
    (small / "notes.pdf").write_bytes(b"x")

    class Notes(NullSink):
        texts: tuple[str, ...] = ()

        def note(self, text: str) -> None:
            self.texts += (text,)

    sink = Notes()
    config = TokenizerTrainConfig(vocab_size=300)
    facts = forecast([small], config, workers=1, sink=sink)
    size = (small / "x.jsonl").stat().st_size
    assert facts.items() >= {"files": 1, "input_bytes": size, "vocab_size": 300}.items()
    assert sink.texts == ("1 files are skipped, the first: notes.pdf (unknown kind)",)


# The report, recomputed with the untouched `tokenizers` library.


def documents(corpus: Path) -> list[tuple[bytes, str, str]]:
    found = []
    for path in sorted(corpus.iterdir()):
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            fields = json.loads(line)
            found.append((document_key(path.name, offset), fields["domain"], fields["text"]))
            offset += len(line)
    return found


def test_report_counts_and_compression(tiny_corpus: Path, tiny_tokenizer: Path) -> None:
    report = json.loads((tiny_tokenizer / "report.json").read_text(encoding="utf-8"))
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    plain = Tokenizer.from_str(json.dumps({**tree, "added_tokens": []}))
    expected: dict[str, dict[str, int]] = {}
    for _, domain, text in documents(tiny_corpus):
        figures = expected.setdefault(domain, {"documents": 0, "bytes": 0, "tokens": 0})
        figures["documents"] += 1
        figures["bytes"] += len(text.encode())
        figures["tokens"] += len(plain.encode(text).ids)
    assert set(expected) == {"web", "zh", "code"}
    for domain, figures in expected.items():
        ratio = round(figures["bytes"] / figures["tokens"], 4)
        assert report["compression"][domain] == {**figures, "bytes_per_token": ratio}
        assert report["training_text"]["domains"][domain] == {
            name: figures[name] for name in ("documents", "bytes")
        }
    assert report["training_text"]["documents"] == len(documents(tiny_corpus))


def test_the_report_reads_the_documents_with_the_smallest_keys(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    limit = 20_000
    made = train(tiny_corpus, tmp_path / "out", vocab_size=300, report_bytes=limit)
    total = made.report["training_text"]["domains"]
    for domain, figures in made.report["compression"].items():
        beginnings = [
            text.encode()[:limit].decode(errors="ignore")
            for _, name, text in sorted(documents(tiny_corpus))
            if name == domain
        ]
        sizes = [len(text.encode()) for text in beginnings]
        behind = next(number for number in range(len(sizes)) if sum(sizes[:number]) >= limit)
        assert figures["documents"] == behind < total[domain]["documents"]
        assert figures["bytes"] == sum(sizes[:behind])


def test_the_shape_of_the_vocabulary(tiny_tokenizer: Path) -> None:
    vocabulary = load_vocabulary(tiny_tokenizer)
    shape = vocabulary_shape(vocabulary)
    found = punctuation_break_ids(vocabulary)
    assert shape["punctuation_break_tokens"] == len(found) > 0
    assert {vocabulary.token_bytes[token] for token in found} >= {b".\n", b"\n".join([b",", b""])}
    for token in found:
        data = vocabulary.token_bytes[token]
        assert data.endswith(b"\n")
        assert not data.strip(b"\n ").decode().isalnum()
    longest = max(map(len, vocabulary.token_bytes))
    assert len(shape["longest_tokens"][0].encode()) == longest
    assert len(shape["longest_tokens"]) == 10
    assert shape["ids"] == VOCAB_SIZE + 815


def test_options_of_reading_apply(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl", [{"body": text, "kind": "a"} for text in TEXTS])
    read = ReadOptions(text_key="body", domain_key="kind")
    made = train(tmp_path / "x.jsonl", tmp_path / "out", read=read)
    assert list(made.report["compression"]) == ["a"]
    assert dataclasses.asdict(read)["text_key"] == "body"
