"""A judgement, figure by figure, against plain recomputation with `tokenizers`."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import load_vocabulary, parse_vocabulary
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.bpe import add_control_tokens, tokenizer_json, train_bpe
from dsv3data_tokenizer.judge.bootstrap import Estimate, Resampler, estimate
from dsv3data_tokenizer.judge.contender import load_contender, parse_contender
from dsv3data_tokenizer.judge.growth import ladder_sizes, parents_of, tokens_at
from dsv3data_tokenizer.judge.judge import judge_tokenizer
from dsv3data_tokenizer.judge.measures import measure_texts
from dsv3data_tokenizer.judge.sample import SampledDocument
from dsv3data_tokenizer.ladder import cut_vocabulary

Tree = dict[str, Any]


def records(corpus: Path) -> list[Tree]:
    lines = [line for path in sorted(corpus.iterdir()) for line in path.open(encoding="utf-8")]
    return [json.loads(line) for line in lines]


def gpt2_style(texts: list[str]) -> Tokenizer:
    """Byte-level with GPT-2's own regex and another id layout."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def other(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others") / "gpt2-style"
    folder.mkdir()
    texts = [record["text"] for record in records(tiny_corpus)]
    gpt2_style(texts).save(str(folder / "tokenizer.json"))
    return folder


def judge(tokenizer: Path, corpus: Path, **options: Any) -> Tree:
    return judge_tokenizer(tokenizer, [corpus], options=ReadOptions(), sink=NullSink(), **options)


@pytest.fixture(scope="module")
def report(tiny_tokenizer: Path, tiny_corpus: Path, other: Path) -> Tree:
    return judge(tiny_tokenizer, tiny_corpus, against=[("", other / "tokenizer.json")])


def plain(path: Path) -> Tokenizer:
    tree = json.loads((path / "tokenizer.json").read_bytes())
    return Tokenizer.from_str(json.dumps({**tree, "added_tokens": []}))


def test_the_report_is_plain_and_the_same_each_time(
    report: Tree, tiny_tokenizer: Path, tiny_corpus: Path, other: Path
) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    again = judge(tiny_tokenizer, tiny_corpus, against=[("", other)])
    assert again == report


def test_compression_is_that_of_plain_tokenizers(
    report: Tree, tiny_tokenizer: Path, tiny_corpus: Path, other: Path
) -> None:
    figures = report["compression"]["domains"]
    assert list(figures) == ["code", "web", "zh"]
    assert [one["name"] for one in report["tokenizers"]] == [tiny_tokenizer.name, "gpt2-style"]
    assert [one["ids"] for one in report["tokenizers"]] == [2315, 600]
    for place, path in enumerate((tiny_tokenizer, other)):
        tokenizer = plain(path)
        for domain, rows in figures.items():
            texts = [one["text"] for one in records(tiny_corpus) if one["domain"] == domain]
            tokens = sum(len(tokenizer.encode(text).ids) for text in texts)
            size = sum(len(text.encode()) for text in texts)
            row = rows[place]
            assert (row["documents"], row["bytes"], row["tokens"]) == (len(texts), size, tokens)
            assert row["bytes_per_token"]["value"] == pytest.approx(size / tokens)
            ours = rows[0]["tokens"]
            assert row["relative_tokens"]["value"] == pytest.approx(tokens / ours)
            low, high = row["bytes_per_token"]["low"], row["bytes_per_token"]["high"]
            assert low < row["bytes_per_token"]["value"] < high
    (all_ours, all_others) = report["compression"]["all"]["all"]
    assert all_ours["tokens"] == sum(rows[0]["tokens"] for rows in figures.values())
    assert all_others["unknown_share"] == 0


def test_fertility_by_word_and_by_character(report: Tree, tiny_corpus: Path) -> None:
    """The domain zh also holds Arabic, Hindi and Korean, but most letters are Han and Thai."""
    figures = report["compression"]["domains"]
    units = {"web": "word", "code": "word", "zh": figures["zh"][0]["unit"]}
    for domain, unit in units.items():
        texts = [one["text"] for one in records(tiny_corpus) if one["domain"] == domain]
        words = [word for text in texts for word in text.split()]
        count = len(words) if unit == "word" else sum(map(len, words))
        for row in figures[domain]:
            assert row["unit"] == unit
            assert row["tokens_per_unit"]["value"] == pytest.approx(row["tokens"] / count)


def test_single_bytes_are_those_of_longer_characters(
    report: Tree, tiny_tokenizer: Path, tiny_corpus: Path
) -> None:
    vocabulary, tokenizer = load_vocabulary(tiny_tokenizer), plain(tiny_tokenizer)
    for domain, rows in report["compression"]["domains"].items():
        texts = [one["text"] for one in records(tiny_corpus) if one["domain"] == domain]
        ids = [token for text in texts for token in tokenizer.encode(text).ids]
        single = sum(
            len(vocabulary.token_bytes[token]) == 1 and vocabulary.token_bytes[token] >= b"\x80"
            for token in ids
        )
        assert rows[0]["single_byte_share"]["value"] == pytest.approx(single / len(ids))
    assert report["compression"]["domains"]["zh"][0]["single_byte_share"]["value"] > 0


def test_control_text_in_documents_is_text(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "<｜User｜><｜fim▁hole｜>"}), encoding="utf-8")
    result = judge(tiny_tokenizer, path)
    assert result["compression"]["domains"]["default"][0]["tokens"] > 10


def test_use_of_the_vocabulary(report: Tree, tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    vocabulary, tokenizer = load_vocabulary(tiny_tokenizer), plain(tiny_tokenizer)
    per_document = [Counter(tokenizer.encode(one["text"]).ids) for one in records(tiny_corpus)]
    counts = sum(per_document, Counter())
    holders = Counter(token for found in per_document for token in found)
    merged = [token for token, data in enumerate(vocabulary.token_bytes) if len(data) > 1]
    use = report["vocabulary"]
    assert use["merged_ids"] == len(merged) == 1500 - 259
    unused = [token for token in merged if not counts[token]]
    assert use["unused"]["count"] == len(unused)
    assert [row["id"] for row in use["unused"]["tokens"]] == unused[:20]
    used = sorted((token for token in merged if counts[token]), key=lambda t: (counts[t], t))
    assert [row["id"] for row in use["rarest"]] == used[:20]
    assert [row["count"] for row in use["rarest"]] == [counts[token] for token in used[:20]]
    longest = sorted(merged, key=lambda t: (-len(vocabulary.token_bytes[t]), t))
    assert [row["id"] for row in use["longest"]] == longest[:20]
    single = [token for token in used if holders[token] == 1 and counts[token] >= 8]
    assert use["single_source"]["count"] == len(single)
    assert {row["id"] for row in use["single_source"]["tokens"]} <= set(single)
    for row in use["longest"]:
        data = vocabulary.token_bytes[row["id"]]
        assert (row["text"], row["bytes"]) == (data.decode("utf-8", "backslashreplace"), len(data))


def test_junk_candidates(tmp_path: Path) -> None:
    """A rule longer than any word, which one document has."""
    tokenizer = train_bpe([("-" * 64 + "é") * 9], vocab_size=270)
    add_control_tokens(tokenizer)
    (tmp_path / "made.json").write_bytes(tokenizer_json(tokenizer))
    path = tmp_path / "x.jsonl"
    rows = [{"text": "x"}, {"text": ("-" * 64 + "é") * 9}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    use = judge(tmp_path / "made.json", path)["vocabulary"]
    assert use["over_long"]["count"] >= 1
    long = next(row for row in use["over_long"]["tokens"] if row["text"] == "-" * 64)
    single = next(row for row in use["single_source"]["tokens"] if row["id"] == long["id"])
    assert (single["bytes"], single["count"]) == (64, 9)
    assert (single["source"], single["position"]) == ("x.jsonl", len('{"text": "x"}\n'))
    assert single["domain"] == "default"


def test_worst_documents(report: Tree, tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    tokenizer = plain(tiny_tokenizer)
    ratios = sorted(
        len(one["text"].encode()) / len(tokenizer.encode(one["text"]).ids)
        for one in records(tiny_corpus)
        if len(one["text"].encode()) >= 256
    )
    worst = report["worst_documents"]
    assert [row["bytes_per_token"] for row in worst] == pytest.approx(ratios[:10])
    for row in worst:
        with (tiny_corpus / row["source"]).open("rb") as file:
            file.seek(row["position"])
            record = json.loads(file.readline())
        assert record["text"].startswith(row["beginning"])
        assert (record["domain"], len(record["text"].encode())) == (row["domain"], row["bytes"])


def test_groups_by_language(tiny_tokenizer: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{**one, "lang": one["domain"]} for one in records(tiny_corpus)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = judge(tiny_tokenizer, path, language_key="lang")["compression"]
    assert list(result) == ["domains", "languages", "all"]
    for name, (row,) in result["languages"].items():
        (same,) = result["domains"][name]
        assert (row["bytes"], row["tokens"]) == (same["bytes"], same["tokens"])


def test_two_tokenizers_of_one_name(tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    result = judge(
        tiny_tokenizer,
        tiny_corpus,
        against=[("", tiny_tokenizer), ("", tiny_tokenizer)],
        sample_bytes=5000,
    )
    name = tiny_tokenizer.name
    assert [one["name"] for one in result["tokenizers"]] == [name, f"{name} (2)", f"{name} (3)"]
    for rows in result["compression"]["domains"].values():
        assert rows[0] == rows[1] == rows[2]
        assert rows[0]["relative_tokens"]["value"] == 1.0


# Growth


def test_growth_equals_encoding_with_cut_vocabularies(
    report: Tree, tiny_tokenizer: Path, tiny_corpus: Path
) -> None:
    whole = (tiny_tokenizer / "tokenizer.json").read_bytes()
    growth = report["growth"]
    assert growth["vocab_sizes"] == [259, 375, 750, 1500]
    for size in (259, 375, 750):
        encoder = HuggingFaceEncoder(parse_vocabulary(cut_vocabulary(whole, size), where="cut"))
        for domain, values in growth["bytes_per_token"].items():
            texts = [one["text"] for one in records(tiny_corpus) if one["domain"] == domain]
            tokens = len(encoder.encode(texts)[0])
            bytes_per_token = sum(len(text.encode()) for text in texts) / tokens
            assert values[growth["vocab_sizes"].index(size)] == pytest.approx(bytes_per_token)
    for domain, values in growth["bytes_per_token"].items():
        ours = report["compression"]["domains"][domain][0]
        assert values[-1] == pytest.approx(ours["bytes_per_token"]["value"])
        assert values == sorted(values)


def test_tokens_of_random_texts_at_every_size(tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    whole = (tiny_tokenizer / "tokenizer.json").read_bytes()
    vocabulary = parse_vocabulary(whole, where="whole")
    rng = random.Random(2)
    text = "".join(one["text"][:50] for one in rng.sample(records(tiny_corpus), 60))
    values, _ = HuggingFaceEncoder(vocabulary).encode([text])
    use = np.bincount(values, minlength=vocabulary.vocab_size)
    sizes = [259, 260, 300, 444, 1000, 1499, 1500]
    found = tokens_at(sizes, parents_of(whole), use)
    for size in sizes:
        cut = parse_vocabulary(cut_vocabulary(whole, size), where="cut")
        assert found[size] == len(HuggingFaceEncoder(cut).encode([text])[0])


def test_ladder_sizes() -> None:
    assert ladder_sizes(128_000) == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000]
    assert ladder_sizes(259) == [259]
    assert ladder_sizes(1000) == [259, 500, 1000]


# Intervals


def test_draws_are_the_same_for_all_measures_and_differ_by_group() -> None:
    values = np.arange(1, 40)
    one, two = Resampler("a", 39).sums(values, 2 * values)
    assert (two == 2 * one).all()
    assert (Resampler("a", 39).sums(values)[0] == one).all()
    assert (Resampler("b", 39).sums(values)[0] != one).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(30, 200), st.integers(0, 1 << 30))
def test_intervals_are_about_as_wide_as_theory_says(documents: int, seed: int) -> None:
    """Delta method for a ratio of means."""
    rng = np.random.default_rng(seed)
    below = rng.integers(50, 150, documents)
    above = 4 * below + rng.integers(-40, 40, documents)
    found = estimate(above, below, Resampler("x", documents).sums(above, below))
    ratio = above.sum() / below.sum()
    spread = np.sqrt(((above - ratio * below) ** 2).sum()) / below.sum()
    assert found.value == pytest.approx(ratio)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.25)


@pytest.mark.parametrize(
    ("above", "below", "value"),
    [([3], [2], 1.5), ([0, 0], [0, 0], None), ([1, 2], [0, 3], 1.0), ([], [], None)],
)
def test_intervals_that_cannot_be(above: list[int], below: list[int], value: float | None) -> None:
    """One document, no denominator, or draws without any."""
    first, second = np.array(above, dtype=np.int64), np.array(below, dtype=np.int64)
    sums = Resampler("x", len(above)).sums(first, second) if above else np.zeros((2, 1), np.int64)
    assert estimate(first, second, sums) == Estimate(value=value, low=None, high=None)


# Texts


@pytest.mark.parametrize(
    ("text", "words", "characters", "letters", "unspaced"),
    [
        ("one  two\nthree3", 3, 12, 11, 0),
        ("中文 ひらカタ。", 2, 7, 6, 6),
        ("ภาษา ไทย", 2, 7, 7, 7),
        ("한국어 글", 2, 4, 4, 0),
        ("𠀀x", 1, 2, 2, 1),
        ("...", 1, 3, 0, 0),
    ],
)
def test_measures_of_text(
    text: str, words: int, characters: int, letters: int, unspaced: int
) -> None:
    document = SampledDocument(
        rank=0, key=b"", source="", position=0, domain="", text=text,
        n_bytes=len(text.encode()), is_cut=False, unit=0,
    )  # fmt: skip
    found = measure_texts([document])
    assert [
        column.tolist()
        for column in (found.bytes, found.words, found.characters, found.letters, found.unspaced)
    ] == [[len(text.encode())], [words], [characters], [letters], [unspaced]]


# Other tokenizers


def ids_of(data: bytes, text: str) -> list[int]:
    (ids,) = parse_contender(data, name="x", where="x").encode([text])
    return list(map(int, ids))


def test_byte_fallback_is_counted() -> None:
    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}, "a": 257}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    contender = parse_contender(tokenizer.to_str().encode(), name="x", where="x")
    (ids,) = contender.encode(["aé\n"])
    assert ids.tolist() == [257, 1 + 0xC3, 1 + 0xA9, 1 + 0x0A]
    assert contender.is_single_byte[ids].tolist() == [False, True, True, False]
    assert (contender.unknown_id, contender.n_ids) == (0, 258)


def test_unknown_text_is_counted(tiny_tokenizer: Path, tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.normalizer = normalizers.Lowercase()
    words.save(str(tmp_path / "words.json"))
    (tmp_path / "x.jsonl").write_text('{"text": "The cat the"}', encoding="utf-8")
    result = judge(tiny_tokenizer, tmp_path / "x.jsonl", against=[("", tmp_path / "words.json")])
    row = result["compression"]["domains"]["default"][1]
    assert (row["tokens"], row["unknown_share"]) == (3, pytest.approx(1 / 3))
    assert result["tokenizers"][1]["name"] == "words"


def test_unigram_models_have_their_unknown_id() -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], 0, False))
    contender = parse_contender(tokenizer.to_str().encode(), name="x", where="x")
    assert contender.unknown_id == 0
    (ids,) = contender.encode(["aé"])
    assert ids.tolist() == [1, 0]


def test_added_tokens_truncation_and_templates_are_taken_off(other: Path) -> None:
    tree = json.loads((other / "tokenizer.json").read_bytes())
    tokenizer = Tokenizer.from_str(json.dumps(tree))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    assert len(ids_of(tokenizer.to_str().encode(), "<|endoftext|>")) > 3
    assert max(ids_of(tokenizer.to_str().encode(), "<|endoftext|>")) > 0


def broken(tree: Tree, **changes: Any) -> bytes:
    return json.dumps({**tree, **changes}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: b"",
        lambda tree: b"[]",
        lambda tree: b"\xff",
        lambda tree: broken(tree, model={"type": "none"}),
        lambda tree: broken(tree, added_tokens=[{"content": "x"}]),
        lambda tree: broken(tree, pre_tokenizer=5),
    ],
)
def test_files_that_are_no_tokenizer(
    other: Path, tmp_path: Path, damage: Callable[[Tree], bytes]
) -> None:
    tree = json.loads((other / "tokenizer.json").read_bytes())
    (tmp_path / "x.json").write_bytes(damage(tree))
    with pytest.raises(BadInput, match=r"it is not a tokenizer\.json") as caught:
        load_contender(tmp_path / "x.json")
    assert "the tokenizer cannot be judged" in caught.value.what
    assert caught.value.where == str(tmp_path / "x.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="it cannot be read: No such file"):
        load_contender(tmp_path / "none.json")


def test_a_tokenizer_that_cannot_encode() -> None:
    words = Tokenizer(models.WordLevel({"the": 0}, unk_token="[UNK]"))
    with pytest.raises(BadInput, match="it cannot encode the sample"):
        ids_of(words.to_str().encode(), "cat")
