"""The tokenizer's card: every figure of the report, and nothing that breaks the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dsv3data_tokenizer.card import tokenizer_card

REPORT: dict[str, Any] = {
    "sha256": "ab" * 32,
    "ids": 128_815,
    "embedding_rows": 128_896,
    "punctuation_break_tokens": 799,
    "longest_tokens": ["----", "``` `x`", "中\n"],
    "training_text": {
        "documents": 1234,
        "bytes": 4_000_000,
        "rejected": 5,
        "domains": {
            "web": {"documents": 1000, "bytes": 3_000_000},
            "code": {"documents": 234, "bytes": 1_000_000},
        },
    },
    "compression": {
        "web": {"documents": 9, "bytes": 90_000, "tokens": 20_000, "bytes_per_token": 4.5},
    },
}
CONFIG = {"vocab_size": 128_000, "read": {"domains": ["web=*```*"]}}


def json_blocks(card: str) -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", card, re.S)]


def test_every_figure_is_there() -> None:
    card = tokenizer_card(REPORT, config=CONFIG)
    for row in (
        "# Byte-level BPE tokenizer, 128,000 entries",
        "| ids, added tokens included | 128,815 |",
        "| embedding rows | 128,896 |",
        "| tokens of punctuation and line breaks | 799 |",
        f"| SHA-256 of tokenizer.json | `{'ab' * 32}` |",
        "| code | 234 | 1,000,000 | 25.0 % |",
        "| web | 1,000 | 3,000,000 | 75.0 % |",
        "| all | 1,234 | 4,000,000 | 100.0 % |",
        "| web | 90,000 | 20,000 | 4.500 |",
        "Records that were rejected: 5.",
        "815 added tokens",
    ):
        assert row in card
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert card.endswith("\n")
    assert "\n\n\n" not in card


def test_texts_of_others_cannot_end_their_block() -> None:
    card = tokenizer_card(REPORT, config=CONFIG)
    assert json_blocks(card) == [CONFIG, REPORT["longest_tokens"]]
    assert card.count("```") == 6


def test_sections_without_content_are_left_out() -> None:
    card = tokenizer_card({**REPORT, "compression": {}})
    assert "## Compression" not in card
    assert "## Recipe" not in card
    empty = {
        "documents": 0,
        "bytes": 0,
        "rejected": 0,
        "domains": {"web": REPORT["compression"]["web"] | {"bytes": 0}},
    }
    assert "| web | 9 | 0 | 0.0 % |" in tokenizer_card({**REPORT, "training_text": empty})


def test_tables_have_as_many_cells_as_columns() -> None:
    lines = tokenizer_card(REPORT, config=CONFIG).split("\n")
    rules = [number for number, line in enumerate(lines) if line.startswith("| ---")]
    assert len(rules) == 3
    for number in rules:
        cells = lines[number].count("|")
        rows = lines[number - 1 :]
        while rows and rows[0].startswith("|"):
            assert rows.pop(0).count("|") == cells


def test_the_report_of_a_real_folder_is_enough(tiny_tokenizer: Path) -> None:
    report = json.loads((tiny_tokenizer / "report.json").read_text(encoding="utf-8"))
    card = tokenizer_card(report)
    assert report["sha256"] in card
    assert all(f"| {domain} |" in card for domain in report["training_text"]["domains"])
    assert card == tokenizer_card(json.loads(json.dumps(report)))
