"""The sample of a judgement: the beginning of a keyed order, whatever the files look like."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.keys import keyed_u64_scalar, user_id_key
from dsv3data.contracts.progress import NullSink
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.judge.sample import Sample, read_sample
from tiny_data import write_jsonl

RNG = random.Random(5)
RECORDS = [
    {
        "id": f"{domain}-{number}",
        "text": "é" * RNG.randint(1, 60) + f" {number}",
        "domain": domain,
        "lang": RNG.choice(["fr", "de"]),
    }
    for domain in ("web", "code")
    for number in range(200)
]


def sample_of(*inputs: Path, sample_bytes: int = 3000, language_key: str = "") -> Sample:
    return read_sample(
        inputs,
        options=ReadOptions(id_key="id"),
        sample_bytes=sample_bytes,
        language_key=language_key,
        sink=NullSink(),
    )


def expected(domain: str, sample_bytes: int) -> list[str]:
    """The slow twin: sort everything, take while there is room."""
    ranked = sorted(
        (keyed_u64_scalar(user_id_key(record["id"]), seed=0, purpose="tokenizer-judge"), record)
        for record in RECORDS
        if record["domain"] == domain
    )
    taken, size = [], 0
    for _, record in ranked:
        size += len(record["text"].encode())
        if taken and size > sample_bytes:
            break
        taken.append(record["text"])
    return taken


@pytest.mark.parametrize("sample_bytes", [1000, 3000, 10_000, 1 << 20])
def test_the_beginning_of_the_keyed_order(tmp_path: Path, sample_bytes: int) -> None:
    sample = sample_of(write_jsonl(tmp_path / "x.jsonl", RECORDS), sample_bytes=sample_bytes)
    for domain in ("code", "web"):
        texts = [document.text for document in sample.documents if document.domain == domain]
        assert texts == expected(domain, sample_bytes)
        assert sum(len(text.encode()) for text in texts) <= sample_bytes
    assert sample.available_documents == {"web": 200, "code": 200}
    assert sample.available_bytes["web"] == sum(
        len(record["text"].encode()) for record in RECORDS if record["domain"] == "web"
    )


def test_any_order_and_files_give_the_same_sample(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "1.jsonl", shuffled[:150])
    data = write_jsonl(tmp_path / "2.jsonl", shuffled[150:]).read_bytes()
    (tmp_path / "in" / "2.jsonl.gz").write_bytes(gzip.compress(data))

    def keys(sample: Sample) -> list[tuple[str, bytes, str]]:
        return [(one.domain, one.key, one.text) for one in sample.documents]

    whole = sample_of(write_jsonl(tmp_path / "x.jsonl", RECORDS))
    assert keys(sample_of(tmp_path / "in")) == keys(whole)
    smaller = sample_of(tmp_path / "in", sample_bytes=1500)
    assert 0 < len(smaller.documents) < len(whole.documents)
    assert {key for _, key, _ in keys(smaller)} < {key for _, key, _ in keys(whole)}


def test_a_long_document_gives_only_its_beginning(tmp_path: Path) -> None:
    records = [{"id": "a", "text": "é" * 5000}, {"id": "b", "text": "short"}]
    sample = sample_of(write_jsonl(tmp_path / "x.jsonl", records), sample_bytes=801)
    by_key = {one.key: one for one in sample.documents}
    long, short = by_key[user_id_key("a")], by_key[user_id_key("b")]
    assert (long.text, long.n_bytes, long.is_cut) == ("é" * 50, 100, True)
    assert (short.text, short.n_bytes, short.is_cut) == ("short", 5, False)
    tiny = sample_of(tmp_path / "x.jsonl", sample_bytes=1)
    assert [one.text for one in tiny.documents] in (["éé"], ["shor"])


def test_languages_come_from_their_field(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [dict(record) for record in RECORDS]
    del records[0]["lang"]
    records[1]["lang"] = "no language, too long a text"
    sample = sample_of(
        write_jsonl(tmp_path / "x.jsonl", records), sample_bytes=1 << 20, language_key="lang"
    )
    languages = {one.key: one.language for one in sample.documents}
    assert len(languages) == len(records)
    for record in records[2:]:
        assert languages[user_id_key(record["id"])] == record["lang"]
    assert languages[user_id_key(records[0]["id"])] == "unknown"
    assert languages[user_id_key(records[1]["id"])] == "unknown"


def test_a_language_field_that_is_nowhere(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", RECORDS)
    with pytest.raises(BadInput, match="names a language in the field 'tongue'") as caught:
        sample_of(path, language_key="tongue")
    assert "check --language-key" in caught.value.fix


def test_rejected_records_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [
        json.dumps(RECORDS[0]),
        "{",
        json.dumps({"id": "x"}),
        json.dumps({"id": "", "text": "a"}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert sample_of(path).rejected == {"bad-json": 1, "no-text-field": 1, "no-id": 1}


def test_input_without_a_document(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"body": "a"}, {"body": "b"}])
    with pytest.raises(BadInput, match="has no usable document: all 2 records were rejected"):
        sample_of(path)
    path.write_bytes(b"\n")
    with pytest.raises(BadInput, match="the input has no usable document"):
        sample_of(path)


def test_files_of_no_kind_are_named(tmp_path: Path) -> None:
    class Notes(NullSink):
        text = ""

        def note(self, text: str) -> None:
            self.text = text

    write_jsonl(tmp_path / "x.jsonl", RECORDS[:2])
    (tmp_path / "y.pdf").write_bytes(b"a")
    notes = Notes()
    read_sample([tmp_path], options=ReadOptions(), sample_bytes=100, language_key="", sink=notes)
    assert notes.text == "1 files were skipped, the first: y.pdf (unknown kind)"
