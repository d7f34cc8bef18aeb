"""Training the merges of a byte-level BPE from words and counts, exactly as Hugging Face does.

Rules [trainer of `tokenizers`]: ids are the control tokens, the 256 byte characters by code
point, then one id a merge. The most frequent pair is merged next, ties go to the smallest (left id,
right id). Overlapping pairs count (`aaa` holds `aa` twice) and are merged from the left.

Hugging Face also says that a merge which makes a known string takes its id. That never happens: as
long as no merge crosses the borders of a string, what happens inside does not depend on what stands
around it (a run of equal symbols that begins outside can only have an even part there), so a string
becomes one token in the same merge wherever it does. Hence all places of a pair come up at once,
in the merge that makes the younger of its ids.

`merge_kernels` holds the layout and the steps. Cost: a merge is linear in the places of its pair,
also inside one giant word. Memory: about 10 bytes a byte of unique words, and 70 a living pair.
`reference.merges` is the slow twin.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models

from dsv3data.contracts import special_tokens
from dsv3data.encoding.vocabulary import byte_to_character
from dsv3data_tokenizer import merge_kernels as kernels
from dsv3data_tokenizer.pretokenizer import deepseek_v3_pre_tokenizer
from dsv3data_tokenizer.word_counts import offsets_and_bytes

FIRST_BYTE_ID = len(special_tokens.IN_VOCABULARY)
FIRST_MERGE_ID = FIRST_BYTE_ID + 256
_MASK = (1 << 64) - 1
_MERGES_AT_ONCE = 1000
_PAIRS_AT_FIRST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Merges:
    """A trained byte-level BPE.

    Attributes:
        pairs: int32 [M, 2], left and right id in order of rank; merge i makes id 259 + i.
        counts: int64 [M], the pair's count when it was merged.
        token_bytes: the bytes of each id; none for control tokens.
    """

    pairs: NDArray[np.int32]
    counts: NDArray[np.int64]
    token_bytes: tuple[bytes, ...]

    @property
    def vocab_size(self) -> int:
        """Ids, control tokens included."""
        return len(self.token_bytes)


def train_merges(
    words: pa.Array | pa.ChunkedArray,
    counts: NDArray[np.int64],
    *,
    vocab_size: int,
    min_frequency: int = 0,
    max_token_bytes: int = 0,
    without: Set[bytes] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
) -> Merges:
    """Merges for a vocabulary of up to `vocab_size` ids, control tokens and bytes included.

    Args:
        words: unique pre-tokens, binary [W].
        counts: int64 [W], occurrences of each, at least 1; no pair's sum may reach 2^63.
        min_frequency: a pair seen less often is not merged.
        max_token_bytes: nor is one that makes a longer token; 0 for no limit.
        without: nor is one that makes one of these strings. A merge that a limit forbids stays
            undone everywhere, and what follows is counted without it.
        progress: called with (ids so far, vocab_size) every thousand merges and at the end.
    """
    trainer = _Trainer(
        words,
        counts,
        vocab_size=vocab_size,
        least=max(1, min_frequency),
        longest=max_token_bytes or np.iinfo(np.int64).max,
        without=without,
    )
    parts = []
    finished = False
    while not finished:
        part, finished = trainer.run()
        parts.append(part)
        if progress is not None:
            progress(trainer.n_tokens, vocab_size)
    rows = np.concatenate(parts)
    return Merges(
        pairs=rows[:, :2].astype(np.int32),
        counts=rows[:, 2].copy(),
        token_bytes=tuple(trainer.token_bytes),
    )


def bpe_tokenizer(merges: Merges) -> Tokenizer:
    """The tokenizer that `bpe.train_bpe` returns when it finds these merges."""
    alphabet = byte_to_character()
    texts = ["".join(map(alphabet.__getitem__, data)) for data in merges.token_bytes]
    texts[:FIRST_BYTE_ID] = special_tokens.IN_VOCABULARY
    pairs = [(texts[left], texts[right]) for left, right in merges.pairs.tolist()]
    model = models.BPE(vocab={text: number for number, text in enumerate(texts)}, merges=pairs)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = deepseek_v3_pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special_tokens.IN_VOCABULARY))
    return tokenizer


@cache
def byte_ids() -> NDArray[np.int64]:
    """The id of each byte value, int64 [256]: bytes in the order of their characters."""
    alphabet = byte_to_character()
    ids = np.empty(256, dtype=np.int64)
    ids[sorted(range(256), key=alphabet.__getitem__)] = np.arange(FIRST_BYTE_ID, FIRST_MERGE_ID)
    return ids


class _Trainer:
    """The state of one training run; kernels do the work, this class gives them room."""

    def __init__(
        self,
        words: pa.Array | pa.ChunkedArray,
        counts: NDArray[np.int64],
        *,
        vocab_size: int,
        least: int,
        longest: int,
        without: Set[bytes],
    ) -> None:
        self._vocab_size = vocab_size
        self._without = without
        self.token_bytes = _byte_tokens()
        most_tokens = max(vocab_size, FIRST_MERGE_ID)
        corpus = _lay_out(words, counts)
        weights, numbers = np.zeros((2, 256, 256), dtype=np.int64)
        kernels.count_byte_pairs(corpus, FIRST_BYTE_ID, weights, numbers)
        n_places = int(numbers.sum())
        n_pairs = _with_reserve(max(np.count_nonzero(numbers), min(n_places, _PAIRS_AT_FIRST)))
        self._state = kernels.State(
            corpus=corpus,
            lengths=np.zeros(most_tokens, dtype=np.int64),
            barred=_barred(without, most_tokens),
            pairs=_empty_pairs(n_pairs),
            heap=_empty_heap(n_pairs),
            neighbours=kernels.Neighbours(*np.zeros((6, most_tokens), dtype=np.int64)),
            places=np.empty(_with_reserve(n_places), dtype=np.uint32),
            scalars=np.zeros(kernels.N_SCALARS, dtype=np.int64),
        )
        self._state.lengths[FIRST_BYTE_ID:FIRST_MERGE_ID] = 1
        scalars = self._state.scalars
        scalars[kernels.TOKENS] = FIRST_MERGE_ID
        scalars[kernels.THRESHOLD] = np.iinfo(np.int64).max
        scalars[kernels.LEAST] = least
        scalars[kernels.LONGEST] = longest
        kernels.enter_byte_pairs(self._state, FIRST_BYTE_ID, weights, numbers)

    @property
    def n_tokens(self) -> int:
        """Ids given so far."""
        return int(self._state.scalars[kernels.TOKENS])

    def run(self) -> tuple[NDArray[np.int64], bool]:
        """Up to a thousand merges as rows (left, right, count), and whether they are the last."""
        out = np.empty((_MERGES_AT_ONCE, 3), dtype=np.int64)
        made = 0
        while True:
            before = made
            made, reason = kernels.run(self._state, out, before, self._vocab_size)
            for left, right, _ in out[before:made].tolist():
                self.token_bytes.append(self.token_bytes[left] + self.token_bytes[right])
            if reason == kernels.NEEDS_ROOM:
                self._make_room()
            elif reason == kernels.MAY_BE_BARRED:
                self._bar_or_allow_first()
            else:
                return out[:made], reason == kernels.FINISHED

    def _bar_or_allow_first(self) -> None:
        """The first pair's string has the hash of a barred one: compare the bytes."""
        state = self._state
        key = int(state.pairs.keys[state.heap.pairs[0]])
        left, right = key >> 32, key & 0xFFFFFFFF
        if self.token_bytes[left] + self.token_bytes[right] in self._without:
            kernels.bar_first(state)
        else:
            state.scalars[kernels.ALLOWED] = key

    def _make_room(self) -> None:
        """Drop what is dead, then grow what is short of the next step's needs."""
        state, scalars = self._state, self._state.scalars
        kernels.compact(state, np.empty(scalars[kernels.PAIRS], dtype=np.int32))
        n_nodes = scalars[kernels.HEAP] + scalars[kernels.NEW_NODES]
        n_places = scalars[kernels.PLACES] + scalars[kernels.NEW_PLACES]
        self._state = state._replace(
            pairs=_grown_pairs(state.pairs, scalars),
            heap=kernels.Heap(*(_grown(column, n_nodes) for column in state.heap)),
            places=_grown(state.places, n_places),
        )


def _byte_tokens() -> list[bytes]:
    """The bytes of the ids before the first merge."""
    tokens = [b""] * FIRST_MERGE_ID
    for value, token in enumerate(byte_ids().tolist()):
        tokens[token] = bytes([value])
    return tokens


def _barred(without: Set[bytes], n_tokens: int) -> kernels.Barred:
    hashes, powers = np.zeros((2, n_tokens), dtype=np.uint64)
    # A byte counts as its value and one, so that no string hashes as itself behind NULs.
    hashes[byte_ids()] = np.arange(1, 257, dtype=np.uint64)
    powers[FIRST_BYTE_ID:FIRST_MERGE_ID] = kernels.HASH_BASE
    wanted = sorted({_hash(string) for string in without})
    return kernels.Barred(hashes, powers, np.array(wanted, dtype=np.uint64))


def _hash(string: bytes) -> int:
    value = 0
    for byte in string:
        value = (value * kernels.HASH_BASE + byte + 1) & _MASK
    return value


def _lay_out(words: pa.Array | pa.ChunkedArray, counts: NDArray[np.int64]) -> kernels.Corpus:
    """Words of one byte hold no pair and are left out."""
    offsets, data = offsets_and_bytes(words)
    lengths = np.diff(offsets)
    chosen = np.flatnonzero(lengths > 1)
    order = chosen[np.argsort(-counts[chosen], kind="stable")]
    n_symbols = int(lengths[order].sum()) + len(order) + 1
    if n_symbols >= 1 << 32:
        raise ValueError(f"{n_symbols:,} bytes of unique words; places are 32-bit numbers")
    symbols = np.empty(n_symbols, dtype=np.int32)
    word_starts = np.empty(len(order), dtype=np.int64)
    kernels.lay_out_words(data, offsets, order, byte_ids(), symbols, word_starts)
    sorted_counts = counts[order]
    first_of_class = np.flatnonzero(np.diff(sorted_counts, prepend=-1))
    class_starts = np.append(word_starts[first_of_class], n_symbols)
    block_starts = np.arange(0, n_symbols, 1 << kernels.BLOCK_SHIFT)
    block_class = np.searchsorted(class_starts, block_starts, side="right") - 1
    return kernels.Corpus(
        symbols=symbols,
        class_starts=class_starts,
        weights=sorted_counts[first_of_class],
        block_class=np.maximum(block_class, 0).astype(np.int32),
    )


def _empty_pairs(size: int) -> kernels.Pairs:
    return kernels.Pairs(
        keys=np.empty(size, dtype=np.int64),
        counts=np.empty(size, dtype=np.int64),
        starts=np.empty(size, dtype=np.int64),
        lengths=np.empty(size, dtype=np.int64),
        waits=np.empty(size, dtype=np.bool_),
        slots=np.full(_power_of_two(2 * size), -1, dtype=np.int32),
    )


def _empty_heap(size: int) -> kernels.Heap:
    return kernels.Heap(
        counts=np.empty(size, dtype=np.int64),
        keys=np.empty(size, dtype=np.int64),
        pairs=np.empty(size, dtype=np.int32),
    )


def _grown_pairs(pairs: kernels.Pairs, scalars: NDArray[np.int64]) -> kernels.Pairs:
    """With room for what the next step may need, and a hash table of the right size."""
    needed = scalars[kernels.PAIRS] + scalars[kernels.NEW_PAIRS]
    grown = pairs._replace(
        keys=_grown(pairs.keys, needed),
        counts=_grown(pairs.counts, needed),
        starts=_grown(pairs.starts, needed),
        lengths=_grown(pairs.lengths, needed),
        waits=_grown(pairs.waits, needed),
    )
    n_slots = _power_of_two(2 * len(grown.keys))
    if n_slots > len(pairs.slots):
        grown = grown._replace(slots=np.empty(n_slots, dtype=np.int32))
        kernels.fill_slots(grown, scalars)
    return grown


def _grown(array: NDArray[Any], needed: np.int64) -> NDArray[Any]:
    """The array, or a larger copy unless it has the needed size and a fifth of it to spare."""
    if 6 * int(needed) <= 5 * len(array):
        return array
    larger = np.empty(max(_with_reserve(needed), len(array)), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def _with_reserve(needed: Any) -> int:
    return int(needed) * 3 // 2 + 1024


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
