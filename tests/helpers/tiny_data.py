"""A small corpus that has what breaks pipelines: many scripts, code, control-token text, and
documents far longer than a row. Same bytes in every session."""

from __future__ import annotations

import ast
import inspect
import json
import random
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dsv3data.contracts import special_tokens
from dsv3data.contracts.progress import NullSink
from dsv3data.io.sources import ReadOptions
from dsv3data.packing.config import PackConfig
from dsv3data_pipelines.pack import pack
from dsv3data_pipelines.tokenize import TokenizeConfig, tokenize
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.train import train_tokenizer

VOCAB_SIZE = 1500
CONTEXT = 128
# Several units and several partitions, so that there is something to resume and to reorder.
TOKENIZE_CONFIG = TokenizeConfig(unit_bytes=32 << 10)
PACK_CONFIG = PackConfig(context=CONTEXT, fim_rate=0.5, partition_tokens=8_000)
_EUROPEAN = ("de", "el", "es", "fr", "ru", "tr")
_HAN_AND_OTHERS = ("zh", "ja", "ko", "ar", "hi", "th")
_CODE_MODULES = (ast, inspect, textwrap)


def write_corpus(folder: Path) -> Path:
    """web.jsonl, chinese.jsonl and code.jsonl: about 200 KB in the domains web, zh and code."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (
        ("web.jsonl", _records("web", [*_paragraphs(_EUROPEAN), *_control_texts()])),
        ("chinese.jsonl", _records("zh", _paragraphs(_HAN_AND_OTHERS))),
        ("code.jsonl", _records("code", list(_functions()))),
    ):
        write_jsonl(folder / name, records)
    return folder


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """One record per line, UTF-8."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_bytes("".join(lines).encode("utf-8"))
    return path


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """One record per text, with no other field."""
    return write_jsonl(path, [{"text": text} for text in texts])


def train_tiny_tokenizer(corpus: Path, out: Path, *, vocab_size: int = VOCAB_SIZE) -> Path:
    """A tokenizer folder."""
    config = TokenizerTrainConfig(vocab_size=vocab_size, read=ReadOptions())
    train_tokenizer([corpus], out=out, config=config, sink=NullSink())
    return out


def tokenize_tiny(
    inputs: Path | str | Sequence[Path], tokenizer: Path, out: Path, **options: Any
) -> Path:
    """A token set of a file, folder, URL or several; `options` of `ReadOptions` or `tokenize`."""
    reading = {key: options.pop(key) for key in list(options) if hasattr(ReadOptions, key)}
    config = options.pop("config", None) or TokenizeConfig(
        unit_bytes=options.pop("unit_bytes", TOKENIZE_CONFIG.unit_bytes),
        read=ReadOptions(**reading),
    )
    paths = [inputs] if isinstance(inputs, Path | str) else list(inputs)
    arguments = {"max_rejected": 1.0, "sink": NullSink(), **options}
    tokenize(paths, tokenizer=tokenizer, out=out, config=config, **arguments)
    return out


def pack_tiny(tokens: Path, out: Path, *, config: PackConfig = PACK_CONFIG, **options: Any) -> Path:
    """A packed set of a token set."""
    pack(tokens, out=out, config=config, **{"sink": NullSink(), **options})
    return out


def _records(domain: str, texts: Sequence[str]) -> list[dict[str, str]]:
    """The texts in a shuffled order, and three long ones made of many."""
    rng = random.Random(domain)
    long_texts = ["\n".join(rng.sample(texts, len(texts) // 3)) for _ in range(3)]
    chosen = [*texts, *long_texts]
    rng.shuffle(chosen)
    return [{"text": text, "domain": domain} for text in chosen]


def _paragraphs(languages: Sequence[str]) -> list[str]:
    folder = resources.files("dsv3data_pipelines.demo_documents") / "texts" / "multi"
    texts = [(folder / f"{name}.txt").read_text(encoding="utf-8") for name in languages]
    return [part for text in texts for part in text.split("\n\n") if part.strip()]


def _functions() -> Iterator[str]:
    for module in _CODE_MODULES:
        source = inspect.getsource(module)
        lines = source.splitlines(keepends=True)
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                yield "".join(lines[node.lineno - 1 : node.end_lineno])


def _control_texts() -> list[str]:
    texts = (special_tokens.EOS, special_tokens.FIM_HOLE, special_tokens.USER, special_tokens.EOT)
    return [
        f"A document may spell {text} and {text[:-1]} as well.\r\n\t\0 {text}" for text in texts
    ]
