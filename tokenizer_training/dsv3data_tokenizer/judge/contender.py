"""A tokenizer as a judgement needs it: ids of documents, and which ids are fallbacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import TOKENIZER_NAME
from dsv3data.encoding.vocabulary import byte_to_character

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A tokenizer under judgement.

    Attributes:
        n_ids: one more than its largest id, added tokens included.
        tokenizer: its added tokens emptied, so that no text becomes a control id.
        is_single_byte: ids that stand for one byte of a character of several bytes, bool [n_ids].
        unknown_id: what it gives for text it has no token for; None for most.
    """

    name: str
    sha256: str
    n_ids: int
    tokenizer: Tokenizer
    is_single_byte: NDArray[np.bool_]
    unknown_id: int | None

    def encode(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        """The ids of each text, int32."""
        try:
            for batch in _batches(texts):
                for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                    yield np.array(encoding.ids, dtype=np.int32)
        except Exception as error:  # `tokenizers` raises nothing more exact
            raise _unusable(f"it cannot encode the sample: {error}", self.name) from error


def load_contender(path: Path, *, name: str = "") -> Contender:
    """Any tokenizer.json of Hugging Face `tokenizers`, or the folder that holds one.

    Args:
        name: how the report calls it; by default after its folder or file.

    Raises:
        BadInput: missing, or not such a file.
    """
    file = path / TOKENIZER_NAME if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _unusable(f"it cannot be read: {error.strerror}", str(file)) from error
    own_name = file.resolve().parent.name if file.name == TOKENIZER_NAME else file.stem
    return parse_contender(data, name=name or own_name, where=str(file))


def parse_contender(data: bytes, *, name: str, where: str) -> Contender:
    """`load_contender` for bytes in memory."""
    try:
        tree = json.loads(data)
        added = [int(token["id"]) for token in tree.get("added_tokens") or []]
        byte_level = _is_byte_level(tree)
        unknown = tree["model"].get("unk_token")
        unknown_id = tree["model"].get("unk_id")
        tree |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        tokenizer = Tokenizer.from_str(json.dumps(tree))
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise _unusable(f"it is not a tokenizer.json: {error!r}", where) from error
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    n_ids = max([*vocab.values(), *added], default=-1) + 1
    is_single_byte = np.zeros(n_ids, dtype=np.bool_)
    is_single_byte[[vocab[text] for text in _single_bytes(byte_level) if text in vocab]] = True
    return Contender(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        n_ids=n_ids,
        tokenizer=tokenizer,
        is_single_byte=is_single_byte,
        unknown_id=vocab.get(unknown) if isinstance(unknown, str) else unknown_id,
    )


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_byte_level(tree: dict[str, Any]) -> bool:
    steps = tree.get("pre_tokenizer") or {}
    return any(step.get("type") == "ByteLevel" for step in [steps, *steps.get("pretokenizers", [])])


def _single_bytes(byte_level: bool) -> list[str]:
    if byte_level:
        return [character for byte, character in byte_to_character().items() if byte >= 0x80]
    return [f"<0x{byte:02X}>" for byte in range(0x80, 0x100)]


def _unusable(problem: str, where: str) -> BadInput:
    return BadInput(
        f"the tokenizer cannot be judged: {problem}",
        where=where,
        effect="nothing was judged",
        fix="give a tokenizer.json of Hugging Face `tokenizers`, or the folder that holds it",
    )
