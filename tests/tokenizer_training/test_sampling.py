"""The recipe of the training text: shares are met, by document key, whatever the units."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.keys import document_key
from dsv3data.contracts.progress import NullSink
from dsv3data.io.sources import Document
from dsv3data_tokenizer.count import CountConfig, count_corpus
from dsv3data_tokenizer.sampling import EVERYTHING, SampleConfig, plan_sample

SIZES = {"code": {"a": 600_000, "b": 300_000}, "en": {"c": 500_000}, "zh": {"d": 100_000}}


def documents() -> list[Document]:
    """Documents of 100 bytes that make up SIZES."""
    made = []
    for domain, sources in SIZES.items():
        for source, size in sources.items():
            for position in range(size // 100):
                key = document_key(source, position)
                made.append(Document(key, source, position, domain, "x" * 100, 100))
    return made


def taken(config: SampleConfig) -> Counter[str]:
    sample = plan_sample(SIZES, config)
    sizes: Counter[str] = Counter()
    for document in documents():
        if sample.takes(document):
            sizes[document.domain] += 100
            sizes[f"{document.domain}/{document.source}"] += 100
    return sizes


def test_no_recipe_takes_everything() -> None:
    assert plan_sample(SIZES, SampleConfig()) is EVERYTHING
    assert all(EVERYTHING.takes(document) for document in documents())


def test_weights_are_met_and_the_scarcest_domain_bounds_the_total() -> None:
    sizes = taken(SampleConfig(weights=("code=0.5", "en=0.3", "zh=0.2")))
    assert sizes["zh"] == 100_000  # all of it: 20 % of 500,000
    assert sizes["code"] == pytest.approx(250_000, rel=0.05)
    assert sizes["en"] == pytest.approx(150_000, rel=0.05)


def test_domains_without_a_weight_are_left_out_and_weights_need_not_add_up_to_one() -> None:
    sizes = taken(SampleConfig(weights=("code=2", "en=2", "zh=0")))
    assert sizes["zh"] == 0
    assert sizes["en"] == 500_000
    assert sizes["code"] == pytest.approx(500_000, rel=0.05)


def test_max_bytes_bounds_the_total_and_keeps_the_mixture() -> None:
    sizes = taken(SampleConfig(max_bytes=150_000))
    assert sizes["code"] == pytest.approx(90_000, rel=0.1)
    assert sizes["en"] == pytest.approx(50_000, rel=0.1)
    assert sizes["zh"] == pytest.approx(10_000, rel=0.3)


def test_a_cap_bounds_each_source() -> None:
    sizes = taken(SampleConfig(source_cap_bytes=200_000))
    assert sizes["code/a"] == pytest.approx(200_000, rel=0.05)
    assert sizes["code/b"] == pytest.approx(200_000, rel=0.05)
    assert sizes["zh/d"] == 100_000


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small = plan_sample(SIZES, SampleConfig(max_bytes=100_000))
    large = plan_sample(SIZES, SampleConfig(max_bytes=400_000))
    both = [(small.takes(document), large.takes(document)) for document in documents()]
    assert (True, True) in both
    assert (False, True) in both
    assert (True, False) not in both


def test_another_seed_takes_other_documents() -> None:
    first, second = (plan_sample(SIZES, SampleConfig(max_bytes=400_000, seed=n)) for n in (0, 1))
    chosen = [{d.key for d in documents() if s.takes(d)} for s in (first, second)]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (("code",), "a weight must look like domain=0.3, not 'code'"),
        (("=1",), "a weight must look like domain=0.3"),
        (("code=much",), "a weight must look like domain=0.3"),
        (("code=-1", "en=2"), "weights must be 0 or more, and one above 0"),
        (("code=0",), "weights must be 0 or more, and one above 0"),
    ],
)
def test_wrong_weights_are_refused(weights: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        SampleConfig(weights=weights)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(BadConfig, match="max_bytes must be 0 or more, not -1"):
        SampleConfig(max_bytes=-1)


def test_a_domain_without_text_is_named() -> None:
    with pytest.raises(BadInput, match="the recipe wants text of domain 'fr', the input has none"):
        plan_sample(SIZES, SampleConfig(weights=("code=1", "fr=1")))


def test_the_counted_text_is_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for domain, number in (("code", 400), ("en", 100)):
        with (folder / f"{domain}.jsonl").open("w") as file:
            for index in range(number):
                file.write(json.dumps({"text": f"{domain} {index:07d} " * 10, "domain": domain}))
                file.write("\n")
    results = [
        count_corpus(
            [folder],
            out=tmp_path / f"out{unit_bytes}",
            config=CountConfig(
                unit_bytes=unit_bytes, sample=SampleConfig(weights=("code=1", "en=1"))
            ),
            sink=NullSink(),
        )
        for unit_bytes in (2_000, 1 << 20)
    ]
    domains = results[0].counts["domains"]
    assert domains["en"]["documents"] == 100
    assert domains["code"]["bytes"] == pytest.approx(domains["en"]["bytes"], rel=0.35)
    counts = [(tmp_path / f"out{n}" / "counts.arrow").read_bytes() for n in (2_000, 1 << 20)]
    assert counts[0] == counts[1]
