"""A tokenizer.json as tables: the bytes of each id, and which ids are control tokens."""

from __future__ import annotations

import codecs
import gc
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts import special_tokens
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import TOKENIZER_NAME, TokenizerRecord
from dsv3data.contracts.special_tokens import ControlIds, padded_vocab_size
from dsv3data.io.make_columns import column_of
from dsv3data.io.manifest_file import check_listed

# Far above any vocabulary in use; a hostile file must not choose our memory.
_MOST_IDS = 1 << 24
# Ids that are decoded together: their text is held twice.
_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Vocabulary:
    """What the data path needs to know of a byte-level BPE tokenizer.

    Attributes:
        tokenizer_json: the file's bytes, as they are.
        document_json: the tokenizer for documents: the same without what could yield a control id.
        token_bytes: for each id the bytes it stands for; control tokens stand for none.
        control: ids of the control tokens that packing writes.
        control_texts: text → id of every added (control) token.
    """

    tokenizer_json: bytes
    document_json: str
    token_bytes: tuple[bytes, ...]
    control: ControlIds
    control_texts: dict[str, int]

    @property
    def vocab_size(self) -> int:
        """Number of ids: one more than the largest."""
        return len(self.token_bytes)

    @property
    def embedding_rows(self) -> int:
        """Rows of an embedding table for these ids, a multiple of 128."""
        return padded_vocab_size(self.vocab_size)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of tokenizer.json: the tokenizer's identity everywhere."""
        return hashlib.sha256(self.tokenizer_json).hexdigest()

    @cached_property
    def byte_lengths(self) -> NDArray[np.int32]:
        """Bytes that each id decodes to, int32 [embedding_rows]; 0 for control and unused ids."""
        lengths = np.zeros(self.embedding_rows, dtype=np.int32)
        lengths[: self.vocab_size] = [len(data) for data in self.token_bytes]
        return lengths

    @cached_property
    def is_control(self) -> NDArray[np.bool_]:
        """Which ids no document text may produce, bool [embedding_rows]; unused rows included."""
        control = np.ones(self.embedding_rows, dtype=np.bool_)
        control[: self.vocab_size] = False
        control[list(self.control_texts.values())] = True
        return control

    @cached_property
    def starts_inside_codepoint(self) -> NDArray[np.bool_]:
        """Which ids begin with a UTF-8 continuation byte, bool [vocab_size]."""
        return np.array([0x80 <= (data[:1] or b"\0")[0] < 0xC0 for data in self.token_bytes])

    def record(self) -> TokenizerRecord:
        """The tokenizer as manifests name it."""
        return TokenizerRecord(
            sha256=self.sha256, vocab_size=self.vocab_size, embedding_rows=self.embedding_rows
        )

    def decode(self, ids: NDArray[np.int32]) -> bytes:
        """The bytes that ids stand for; control tokens stand for none.

        Cost: about 8 ns an id.
        """
        steps = (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
        return b"".join(self._entries.take(column_of(step)).buffers()[2] for step in steps)

    def decode_runs(self, ids: NDArray[np.int32], borders: NDArray[np.int64]) -> list[bytes]:
        """`decode` of ids[borders[i] : borders[i + 1]] for each i, at once."""
        data = self.decode(ids)
        ends = np.cumsum(self.byte_lengths.take(ids), dtype=np.int64)
        places = np.concatenate([[0], ends])[borders]
        return [data[start:stop] for start, stop in itertools.pairwise(places.tolist())]

    @cached_property
    def _entries(self) -> pa.LargeBinaryArray:
        """The bytes of each id."""
        offsets = np.zeros(self.vocab_size + 1, dtype=np.int64)
        np.cumsum(self.byte_lengths[: self.vocab_size], out=offsets[1:])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(self.token_bytes))]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), self.vocab_size, buffers)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a tokenizer.json, or the folder that holds one.

    Raises:
        BadInput: missing, not a byte-level BPE, or without DeepSeek-V3's control tokens.
        IntegrityError: not the file that the manifest beside it lists.
    """
    file = path / TOKENIZER_NAME if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"the tokenizer cannot be read: {error.strerror}",
            where=str(file),
            effect="nothing was started",
            fix="give the folder that `dsv3data tokenizer train` wrote",
        ) from error
    check_listed(file)
    return parse_vocabulary(data, where=str(file))


_kept: Vocabulary | None = None


def keep_vocabulary(vocabulary: Vocabulary) -> None:
    """Let `parse_vocabulary` give this one for its bytes."""
    global _kept
    _kept = vocabulary


def parse_vocabulary(data: bytes, *, where: str) -> Vocabulary:
    """`load_vocabulary` for bytes in memory. The last one is kept: a stage asks for it twice."""
    if _kept is not None and _kept.tokenizer_json == data:
        return _kept
    with _without_collections():
        vocabulary = _parsed(data, where)
    keep_vocabulary(vocabulary)
    return vocabulary


@contextmanager
def _without_collections() -> Iterator[None]:
    """A tree of half a million objects is built: that the garbage collector walks it while it grows
    takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parsed(data: bytes, where: str) -> Vocabulary:
    try:
        tree = orjson.loads(data)
        vocab: dict[str, int] = tree["model"]["vocab"]
        added = {token["content"]: int(token["id"]) for token in tree["added_tokens"]}
        byte_level = _is_byte_level(tree)
        ids = {*map(int, vocab.values()), *added.values()}
        document_json = _document_json(tree)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(f"it is not a tokenizer.json: {error!r}", where) from error
    if not byte_level:
        raise _unusable("it is not a byte-level BPE without a normalizer", where)
    control = _control_ids(added, where)
    if min(ids) < 0 or max(ids) >= _MOST_IDS:
        raise _unusable(f"its ids are not from 0 to {_MOST_IDS - 1:,}", where)
    table = [b""] * (max(ids) + 1)
    for text, token in vocab.items():
        if text not in added:
            table[token] = _bytes_of(text, where)
    return Vocabulary(
        tokenizer_json=data,
        document_json=document_json,
        token_bytes=tuple(table),
        control=control,
        control_texts=added,
    )


def _document_json(tree: dict[str, Any]) -> str:
    """Merges are written as text instead of pairs, which means the same in a byte-level vocabulary
    (no entry holds a space) and loads in two thirds of the time; entries in the order of their
    names, which saves the engines another quarter."""
    model = tree["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tree = {**tree, "added_tokens": [], "model": {**model, "merges": merges}}
    tree |= dict.fromkeys(("post_processor", "truncation", "padding"))
    return orjson.dumps(tree, option=orjson.OPT_SORT_KEYS).decode()


def byte_to_character() -> dict[int, str]:
    """The byte-level alphabet of GPT-2: a printable character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {byte: chr(byte) for byte in printable}
    table.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return table


_TO_BYTES = {ord(character): byte for byte, character in byte_to_character().items()}


def _bytes_of(text: str, where: str) -> bytes:
    try:
        return codecs.charmap_encode(text, "strict", _TO_BYTES)[0]
    except UnicodeEncodeError as error:
        raise _unusable(f"entry {text!r} is not in the byte-level alphabet", where) from error


def _is_byte_level(tree: dict[str, Any]) -> bool:
    pre = tree["pre_tokenizer"] or {}
    steps = pre.get("pretokenizers", [pre])
    return (
        tree["model"]["type"] == "BPE"
        and not _normalizes(tree.get("normalizer"))
        and any(step.get("type") == "ByteLevel" for step in steps)
    )


def _normalizes(normalizer: dict[str, Any] | None) -> bool:
    """DeepSeek-V3's own file has an empty sequence of normalizers, which changes nothing."""
    if normalizer is None:
        return False
    return normalizer.get("type") != "Sequence" or bool(normalizer.get("normalizers"))


def _control_ids(added: dict[str, int], where: str) -> ControlIds:
    try:
        return ControlIds(
            bos=added[special_tokens.BOS],
            eos=added[special_tokens.EOS],
            pad=added[special_tokens.PAD],
            fim_hole=added[special_tokens.FIM_HOLE],
            fim_begin=added[special_tokens.FIM_BEGIN],
            fim_end=added[special_tokens.FIM_END],
        )
    except KeyError as error:
        raise _unusable(f"it lacks the control token {error}", where) from error


def _unusable(problem: str, where: str) -> BadInput:
    return BadInput(
        f"this tokenizer cannot be used: {problem}",
        where=where,
        effect="nothing was started",
        fix="train one with `dsv3data tokenizer train`, or take DeepSeek-V3's tokenizer.json",
    )
