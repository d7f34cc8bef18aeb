"""The folder of a tokenizer: all its files, written so that the manifest comes last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from dsv3data.contracts.manifest import TOKENIZER, TOKENIZER_NAME, Manifest
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.atomic import write_atomic
from dsv3data.io.manifest_file import describe_file, write_manifest
from dsv3data_tokenizer.bpe import tokenizer_config_json
from dsv3data_tokenizer.card import CARD_NAME, tokenizer_card
from dsv3data_tokenizer.debias import DEBIAS_NAME, debias_json, debias_table
from dsv3data_tokenizer.exports import TIKTOKEN_NAME, tiktoken_ranks
from dsv3data_tokenizer.judge.vocabulary import vocabulary_shape
from dsv3data_tokenizer.without import WITHOUT_NAME, without_lines

CONFIG_NAME = "tokenizer_config.json"
REPORT_NAME = "report.json"


def write_tokenizer_folder(
    out: Path,
    vocabulary: Vocabulary,
    *,
    plan: Mapping[str, Any],
    training_text: Mapping[str, Any],
    compression: Mapping[str, Any],
    without: Set[bytes],
) -> dict[str, Any]:
    """Publish all files of a tokenizer; the content of its report.json.

    Args:
        without: strings that might not become tokens; kept beside it, if there are any.
    """
    report = {
        **vocabulary_shape(vocabulary),
        "sha256": vocabulary.sha256,
        "training_text": training_text,
        "compression": compression,
    }
    files = {
        TOKENIZER_NAME: vocabulary.tokenizer_json,
        CONFIG_NAME: tokenizer_config_json(vocabulary.embedding_rows),
        TIKTOKEN_NAME: tiktoken_ranks(vocabulary),
        DEBIAS_NAME: debias_json(debias_table(vocabulary), vocabulary),
        REPORT_NAME: (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode("utf-8"),
    }
    recipe = dict(plan["tokenizer"])
    if without:
        files[WITHOUT_NAME] = without_lines(without)
        recipe["without"] = f"{len(without):,} strings, see {WITHOUT_NAME}"
    files[CARD_NAME] = tokenizer_card(report, config=recipe).encode("utf-8")
    for name, data in files.items():
        write_atomic(out / name, data)
    manifest = Manifest(
        format=TOKENIZER,
        plan=plan,
        input={},
        tokenizer=vocabulary.record(),
        counts=training_text,
        keys_digest="",
        files=tuple(describe_file(out, name) for name in files),
    )
    write_manifest(out, manifest)
    return report
