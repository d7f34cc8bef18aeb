"""The sample of the training text: the smallest keys, however the corpus is cut."""

from __future__ import annotations

import random
from pathlib import Path

from dsv3data_tokenizer.text_sample import TextSample, merge_samples

LIMIT = 3_000


def some_documents(count: int) -> list[tuple[str, bytes, bytes]]:
    chance = random.Random(1)
    return [
        (
            chance.choice(["code", "web"]),
            chance.randbytes(16),
            ("é\n\u2028" * chance.randrange(1, 40)).encode(),
        )
        for _ in range(count)
    ]


def expected(documents: list[tuple[str, bytes, bytes]], domain: str) -> list[str]:
    """The slow twin: sort all, take until there is enough."""
    texts: list[str] = []
    for _, _, data in sorted(document for document in documents if document[0] == domain):
        if sum(len(text.encode()) for text in texts) >= LIMIT:
            break
        texts.append(data.decode())
    return texts


def sampled(documents: list[tuple[str, bytes, bytes]]) -> TextSample:
    sample = TextSample(LIMIT)
    for document in documents:
        sample.add(*document)
    return sample


def test_the_smallest_keys_in_any_order_of_documents() -> None:
    documents = some_documents(400)
    texts = sampled(documents).texts()
    assert list(texts) == ["code", "web"]
    for domain in texts:
        assert texts[domain] == expected(documents, domain)
        assert 1 < len(texts[domain]) < 200
    assert sampled(documents[::-1]).texts() == texts


def test_samples_of_parts_merge_to_that_of_the_whole(tmp_path: Path) -> None:
    documents = some_documents(400)
    whole = tmp_path / "whole.jsonl"
    sampled(documents).write(whole)
    parts = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for number, path in enumerate(parts):
        sampled(documents[number::3]).write(path)
    merge_samples(parts, limit_bytes=LIMIT).write(tmp_path / "merged.jsonl")
    assert (tmp_path / "merged.jsonl").read_bytes() == whole.read_bytes()
    assert merge_samples([whole], limit_bytes=LIMIT).texts() == sampled(documents).texts()


def test_few_documents_are_all_taken_and_a_long_one_is_cut_at_a_character(tmp_path: Path) -> None:
    sample = TextSample(5)
    sample.add("a", bytes(16), b"xy")
    sample.add("b", bytes(16), "ééé".encode())
    assert sample.texts() == {"a": ["xy"], "b": ["éé"]}
    assert TextSample(5).texts() == {}
