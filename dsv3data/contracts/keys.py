"""Document keys and keyed randomness: the only source of chance in the data path.

A random decision is a pure function of (seed, purpose, document key), so that worker count, order
of completion, host and clock cannot reach a byte of the output. Two uses of chance never share a
purpose string.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
_MASK = (1 << 64) - 1
# SplitMix64 (Steele, Lea, Flood 2014): increment and the two multipliers of its finalizer.
_GAMMA, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def document_key(source: str, position: int) -> bytes:
    """128-bit key of the document that stands at `position` in `source`.

    `source` is the path relative to the input root, so that moving a corpus changes no key.
    `position` is the row number (Parquet, Arrow) or the byte offset of the line (JSONL).
    """
    state = _hashed_source(source).copy()
    state.update(b"%d" % position)
    return state.digest()


@functools.lru_cache(maxsize=64)
def _hashed_source(source: str) -> hashlib.blake2b:
    text = f"position\0{source}\0"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=KEY_BYTES)


def user_id_key(user_id: str) -> bytes:
    """128-bit key of a document that carries the user's own id, lone surrogates included."""
    text = f"id\0{user_id}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def keys_to_words(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Keys as bytes, uint8 [N, 16] → the same as little-endian words, uint64 [N, 2]."""
    words: NDArray[np.uint64] = np.ascontiguousarray(keys).view("<u8").reshape(len(keys), 2)
    return words


def keyed_u64(
    words: NDArray[np.uint64], *, seed: int, purpose: str, counter: NDArray[np.uint64] | int = 0
) -> NDArray[np.uint64]:
    """One uniform 64-bit word per document, a pure function of its arguments.

    Args:
        words: document keys, uint64 [N, 2].
        counter: distinguishes several draws for one document (its pieces, its tokens); one number
            or uint64 [N].

    Keys are already the output of a cryptographic hash, so three rounds of SplitMix64's finalizer
    over (key, stream, counter) suffice; this is not meant to resist an adversary.
    Cost: about 20 ns a document. `keyed_u64_scalar` is the slow twin.
    """
    return counted_u64(keyed_state(words, seed=seed, purpose=purpose), counter)


def keyed_state(words: NDArray[np.uint64], *, seed: int, purpose: str) -> NDArray[np.uint64]:
    """What `keyed_u64` knows before it counts, uint64 [N]: once a document, for many counters."""
    stream = np.uint64(stream_constant(seed, purpose))
    with np.errstate(over="ignore"):
        return _mix(_mix(words[:, 0] ^ stream) + words[:, 1])


def counted_u64(state: NDArray[np.uint64], counter: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """`keyed_u64` from its state, uint64 [N]."""
    counters = np.asarray(counter, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mix(state + counters * np.uint64(_GAMMA))


def keyed_u64_scalar(key: bytes, *, seed: int, purpose: str, counter: int = 0) -> int:
    """`keyed_u64` for one document in plain integers: the same word for the same arguments."""
    low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = _mix_scalar(low ^ stream_constant(seed, purpose))
    state = _mix_scalar((state + high) & _MASK)
    return _mix_scalar((state + counter * _GAMMA) & _MASK)


def stream_constant(seed: int, purpose: str) -> int:
    """64-bit constant of a (seed, purpose) pair."""
    digest = hashlib.blake2b(f"{seed}\0{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def uniform_unit(values: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform words → floats in [0, 1) with 53 random bits."""
    unit: NDArray[np.float64] = (values >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def keys_digest(words: NDArray[np.uint64]) -> str:
    """Order-independent fingerprint of a set of keys: their sum modulo 2^128, 32 hex digits.

    Sums add up over shards, so the documents of a packed set can be proven to be those of its
    token set without sorting either. A document lost, added or doubled changes it.
    """
    low, high = _sum(words[:, 0]), _sum(words[:, 1])
    return f"{(low + (high << 64)) % (1 << 128):032x}"


def add_digests(digests: list[str]) -> str:
    """`keys_digest` of the union of disjoint sets of keys."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 128):032x}"


def _sum(words: NDArray[np.uint64]) -> int:
    """Exact sum of fewer than 2^32 words, half by half."""
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    return int(low.sum()) + (int(high.sum()) << 32)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
    return state ^ (state >> np.uint64(31))


def _mix_scalar(state: int) -> int:
    state = ((state ^ (state >> 30)) * _MIX_1) & _MASK
    state = ((state ^ (state >> 27)) * _MIX_2) & _MASK
    return state ^ (state >> 31)
