"""The card of a tokenizer: README.md of its folder, in Markdown as model hubs read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.contracts import special_tokens

CARD_NAME = "README.md"

_HEAD = """\
---
library_name: transformers
tags:
- tokenizer
- byte-level-bpe
---
"""
_WHAT = """\
A byte-level BPE tokenizer with DeepSeek-V3's pre-tokenizer, control tokens and id layout, trained
with dsv3data. Every text round-trips. Ids 0-2 are begin of sentence, end of sentence and padding,
3-258 the bytes, then one id for each merge, then {added} added tokens: placeholders, FIM sentinels,
chat turns and tool calls.
"""
_LOADING = """\
```python
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")

from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file("THIS_FOLDER/tokenizer.json")
```

Both turn the text of a control token into its id, wherever it stands. For documents of others take
`dsv3data tokenize DOCUMENTS --tokenizer THIS_FOLDER --out TOKENS`, which never does.
"""


def tokenizer_card(report: Mapping[str, Any], *, config: Mapping[str, Any] | None = None) -> str:
    """The card, a pure function of what report.json says and of the configuration.

    Args:
        report: with `sha256`, `ids`, `embedding_rows`, `punctuation_break_tokens`,
            `longest_tokens`, `training_text` (documents, bytes, rejected, domains) and
            `compression` by domain, which may be empty.
        config: the resolved configuration as a tree of plain values.
    """
    entries = report["ids"] - len(special_tokens.ADDED)
    sections = [
        _HEAD + f"# Byte-level BPE tokenizer, {entries:,} entries",
        _WHAT.format(added=len(special_tokens.ADDED)),
        _vocabulary(report, entries),
        "## Training text\n\n" + _training_text(report["training_text"]),
    ]
    if config is not None:
        sections.append("## Recipe\n\n" + _json_block(config))
    if report["compression"]:
        sections.append("## Compression\n\n" + _compression(report["compression"]))
    sections.append("## Longest tokens\n\n" + _json_block(report["longest_tokens"]))
    sections.append("## Loading\n\n" + _LOADING)
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def _vocabulary(report: Mapping[str, Any], entries: int) -> str:
    return _table(
        ("", ""),
        [
            ("entries of the model", f"{entries:,}"),
            ("ids, added tokens included", f"{report['ids']:,}"),
            ("embedding rows", f"{report['embedding_rows']:,}"),
            ("tokens of punctuation and line breaks", f"{report['punctuation_break_tokens']:,}"),
            ("SHA-256 of tokenizer.json", f"`{report['sha256']}`"),
        ],
    )


def _training_text(text: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{part['documents']:,}", f"{part['bytes']:,}", _share(part["bytes"], text["bytes"]))
        for name, part in sorted(text["domains"].items())
    ]
    rows.append(("all", f"{text['documents']:,}", f"{text['bytes']:,}", "100.0 %"))
    table = _table(("domain", "documents", "bytes", "share of bytes"), rows)
    return f"{table}\n\nRecords that were rejected: {text['rejected']:,}."


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _compression(domains: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (name, f"{row['bytes']:,}", f"{row['tokens']:,}", f"{row['bytes_per_token']:.3f}")
        for name, row in sorted(domains.items())
    ]
    return "On a keyed sample of the training text:\n\n" + _table(
        ("domain", "bytes", "tokens", "bytes per token"), rows
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that hold no bar; numbers to the right."""
    rule = ("---", *("---:" for _ in columns[1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def _json_block(tree: Any) -> str:
    """Values as JSON. Back quotes are escaped, so that none can end the block."""
    text = json.dumps(tree, ensure_ascii=False, indent=2).replace("`", "\\u0060")
    return f"```json\n{text}\n```"
