"""FIM: grammar, split points, and that no encoder whatever can change a document's bytes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import keyed_u64_scalar, keys_to_words
from dsv3data.contracts.special_tokens import ControlIds
from dsv3data.packing.config import PackConfig
from dsv3data.packing.debias import debias, split_table
from dsv3data.packing.fim import (
    FIM_PSM,
    FIM_SPM,
    PLAIN,
    Codec,
    FimCounts,
    FimPiece,
    FimSource,
    assemble_psm,
    assemble_spm,
    choose_documents,
    cut_at_codepoints,
    fim_documents,
    parse_fim,
    parse_psm,
    parse_spm,
    piece_budget,
    split_points,
    split_text,
)

CONTROL = ControlIds(bos=300, eos=301, pad=302, fim_hole=303, fim_begin=304, fim_end=305)

# A toy byte-level vocabulary: 256 bytes, some pairs that share a code point with a neighbour or
# join two of them, and the control tokens, which stand for no bytes.
PAIRS = [
    b"th",
    b"e ",
    b"\xc3\xa9",
    b"\xe4\xb8",
    b"\xb8\xad",
    b"\xad\xe4",
    b"\xf0\x9f",
    b"aa",
    b"\n\n",
    b".\n",
    b".\n\n",
]
BYTES_OF = [bytes([b]) for b in range(256)] + PAIRS
ID_OF = {raw: token for token, raw in enumerate(BYTES_OF)}


def decode(ids: np.ndarray) -> bytes:
    return b"".join(BYTES_OF[i] if i < len(BYTES_OF) else b"" for i in ids.tolist())


def decode_runs(ids: np.ndarray, borders: np.ndarray) -> list[bytes]:
    assert borders[-1] == len(ids)
    return [decode(ids[start:stop]) for start, stop in itertools.pairwise(borders)]


def encode(text: str) -> np.ndarray:
    """Greedy pairs over the bytes: splitting a text changes the tokens next to the split."""
    raw, ids = text.encode(), []
    while raw:
        size = next(size for size in (3, 2, 1) if raw[:size] in ID_OF)
        ids.append(ID_OF[raw[:size]])
        raw = raw[size:]
    return np.array(ids, dtype=np.int32)


def encode_wastefully(text: str) -> np.ndarray:
    return np.array(list(text.encode()), dtype=np.int32)


def encode_lossily(text: str) -> np.ndarray:
    return encode(text.replace("e", ""))


def encode_with_a_control_id(text: str) -> np.ndarray:
    return np.append(encode(text), np.int32(CONTROL.bos))


_WHOLE = [ID_OF[b".\n"], ID_OF[b".\n\n"]]
_TAILS = [ID_OF[b"\n"], ID_OF[b"\n\n"]]
SPLITS = split_table(
    np.array(_WHOLE), np.array([ID_OF[b"."]] * 2), np.array(_TAILS), vocab_size=400
)
STARTS_INSIDE = np.zeros(400, dtype=np.bool_)
STARTS_INSIDE[: len(BYTES_OF)] = [0x80 <= raw[0] < 0xC0 for raw in BYTES_OF]

characters = st.sampled_from("aeth \n中é😀\u0301") | st.characters(exclude_categories=["Cs"])
texts = st.lists(characters | st.sampled_from([".\n", ".\n\n", "."]), max_size=120).map("".join)
keys = st.binary(min_size=16, max_size=16)


def codec(encoder: Callable[[str], np.ndarray] = encode) -> Codec:
    def encode_all(parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = [encoder(part) for part in parts]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in ids])])
        return np.concatenate(ids), offsets

    return Codec(
        encode=encode_all,
        decode=decode_runs,
        starts_inside=STARTS_INSIDE,
        control=CONTROL,
        is_control=np.arange(400) >= CONTROL.bos,
        splits=SPLITS,
    )


def fim_document(
    ids: np.ndarray, key: bytes, codec: Codec, config: PackConfig, *, by_lines: bool = False
) -> tuple[list[FimPiece], FimCounts]:
    """One document, debiased first as `pack` does."""
    words = keys_to_words(np.frombuffer(key, dtype=np.uint8).reshape(1, 16))
    apart = debias(
        ids, np.array([0, len(ids)]), words, SPLITS, rate=config.debias_rate, seed=config.draws
    )
    source = FimSource(ids=apart.values, key=key, tails=apart.tails)
    (pieces,), counts = fim_documents([source], codec, config, by_lines=by_lines)
    return pieces, counts


def pairs_of_halves(ids: np.ndarray) -> int:
    pairs = {(ID_OF[b"."], tail) for tail in _TAILS}
    return sum(pair in pairs for pair in itertools.pairwise(ids.tolist()))


def split_of(
    key: bytes, piece: int, text: str, *, seed: int, by_lines: bool = False
) -> tuple[int, int]:
    """The split of a piece, from the scalar twin's draws."""
    draws = (
        keyed_u64_scalar(key, seed=seed, purpose="fim-split", counter=piece),
        keyed_u64_scalar(key, seed=seed, purpose="fim-split-second", counter=piece),
    )
    return split_points(draws, text, by_lines=by_lines)


FLAG_OF = {"psm": FIM_PSM, "spm": FIM_SPM}


def bytes_of(piece: FimPiece, *, last: bool) -> bytes:
    """The text of a piece, after checking that its control ids are where they belong."""
    if piece.flag != PLAIN:
        prefix, middle, suffix = map(decode, parse_fim(piece.ids, piece.flag, CONTROL))
        assert piece.split == (len(prefix.decode()), len(prefix.decode()) + len(middle.decode()))
        return prefix + middle + suffix
    assert piece.flag == PLAIN
    assert piece.split == (-1, -1)
    assert piece.ids[-1:].tolist() == [CONTROL.eos] if last else CONTROL.eos not in piece.ids
    return decode(piece.ids)


SEEN: Counter[str] = Counter()


@settings(max_examples=600, deadline=None)
@given(
    text=texts,
    key=keys,
    seed=st.integers(0, 2**32),
    context=st.sampled_from([16, 17, 24, 64, 256]),
    mode=st.sampled_from(["psm", "spm", "mixed"]),
    by_lines=st.booleans(),
    encoder=st.sampled_from(
        [encode, encode, encode_wastefully, encode_lossily, encode_with_a_control_id]
    ),
)
def check_bytes_are_kept(
    text: str,
    key: bytes,
    seed: int,
    context: int,
    mode: Literal["psm", "spm", "mixed"],
    by_lines: bool,
    encoder: Callable[[str], np.ndarray],
) -> None:
    ids = encode(text)
    config = PackConfig(context=context, seed=seed, fim_mode=mode, debias_rate=0.5)
    pieces, counts = fim_document(ids, key, codec(encoder), config, by_lines=by_lines)
    rebuilt = [bytes_of(piece, last=piece is pieces[-1]) for piece in pieces]
    assert b"".join(rebuilt) == text.encode()
    assert all(1 <= len(piece.ids) <= context and piece.ids.dtype == np.int32 for piece in pieces)
    for number, (piece, data) in enumerate(zip(pieces, rebuilt, strict=True)):
        if piece.flag != PLAIN:
            drawn = split_of(key, number, data.decode(), seed=config.draws, by_lines=by_lines)
            assert piece.split == drawn
    plain = [piece for piece in pieces if piece.flag == PLAIN]
    ends = [piece is pieces[-1] for piece in plain]
    for piece, ending in zip(plain, ends, strict=True):
        assert len(piece.ids) == piece.stop - piece.start + piece.n_debiased + ending
        assert piece.n_debiased <= pairs_of_halves(piece.ids)
    assert len(pieces) > 1 or len(ids) < context
    assert len(pieces) == 1 or 2 * len(ids) >= context
    assert [p.start for p in pieces] == [0, *(p.stop for p in pieces[:-1])]
    assert pieces[-1].stop == len(ids)
    fim = [piece for piece in pieces if piece.flag != PLAIN]
    assert counts.pieces_fim == len(fim)
    assert counts.pieces_spm == sum(piece.flag == FIM_SPM for piece in fim)
    assert counts.sample_tokens_debiased == sum(piece.n_debiased for piece in fim)
    assert mode == "mixed" or {piece.flag for piece in fim} <= {FLAG_OF[mode]}
    assert counts.source_tokens_fim == sum(p.stop - p.start for p in fim)
    assert counts.sample_ids_fim == sum(len(p.ids) for p in fim)
    reasons = (
        "plain_too_short", "plain_too_long", "plain_not_text", "plain_not_reversible"
    )  # fmt: skip
    assert len(pieces) == len(fim) + sum(getattr(counts, reason) for reason in reasons)
    SEEN["several FIM pieces"] += len(fim) > 1
    SEEN["split, plain"] += any(piece.n_debiased for piece in plain)
    SEEN["split, FIM"] += counts.sample_tokens_debiased > 0
    SEEN["SPM"] += counts.pieces_spm > 0
    SEEN["mixed"] += 0 < len(fim) < len(pieces)
    SEEN["wide"] += bool(fim) and any(ord(c) > 0xFFFF for c in text)
    SEEN.update({reason: getattr(counts, reason) for reason in reasons})
    SEEN["border moved"] += any(p.stop - p.start < piece_budget(context) for p in pieces[:-1])


def test_no_encoder_changes_a_byte() -> None:
    SEEN.clear()
    check_bytes_are_kept()
    assert SEEN.pop("plain_not_text") == 0  # the documents are texts, and cut at code points
    assert len(SEEN) == 10
    assert min(SEEN.values()) > 0, SEEN


def test_a_document_as_long_as_a_row_is_never_cut() -> None:
    config = PackConfig(context=64)
    for n_tokens, expected in ((60, 1), (63, 1), (64, 2), (65, 2)):
        pieces, counts = fim_document(encode("x" * n_tokens), b"k" * 16, codec(), config)
        assert len(pieces) == expected, n_tokens
        assert sum(piece.stop - piece.start for piece in pieces) == n_tokens
        # 60 tokens and four added ids just fit; 63 fit as they are, but not as a sample.
        assert counts.plain_too_long == (n_tokens == 63)


def test_ids_that_are_no_text_stay_plain() -> None:
    ids = np.full(40, 0x80, dtype=np.int32)  # continuation bytes only: there is no border at all
    pieces, counts = fim_document(ids, b"k" * 16, codec(), PackConfig(context=16))
    assert [piece.flag for piece in pieces] == [PLAIN] * 4
    assert counts.plain_not_text == 4
    assert b"".join(decode(piece.ids) for piece in pieces) == b"\x80" * 40


def test_borders_never_cut_a_code_point() -> None:
    ids = encode_wastefully("a" + "😀" * 30)
    borders = cut_at_codepoints(ids, STARTS_INSIDE, context=32)
    assert len(borders) > 4
    for start, stop in itertools.pairwise(borders):
        decode(ids[start:stop]).decode()
        assert stop - start <= piece_budget(32)


@pytest.mark.parametrize("text", ["", "a", "ab", "é😀"])
def test_a_document_too_short_stays_plain_and_is_counted(text: str) -> None:
    pieces, counts = fim_document(encode(text), b"k" * 16, codec(), PackConfig(context=16))
    assert [piece.flag for piece in pieces] == [PLAIN]
    assert pieces[0].ids.tolist() == [*encode(text).tolist(), CONTROL.eos]
    assert counts == FimCounts(
        documents_chosen=1, source_tokens_chosen=len(encode(text)), plain_too_short=1
    )


def test_a_document_of_just_enough_code_points_is_fim() -> None:
    for text, least in (("é😀中", 3), ("ab", 2)):
        config = PackConfig(context=16, fim_min_codepoints=least)
        (piece,), counts = fim_document(encode(text), b"k" * 16, codec(), config)
        assert piece.flag == FIM_PSM
        assert counts.plain_too_short == 0


def test_counts_add_up() -> None:
    total = FimCounts()
    for text in ("the end", "ab", "中" * 60):
        _, counts = fim_document(encode(text), b"k" * 16, codec(), PackConfig(context=32))
        total.add(counts)
    assert total.documents_chosen == 3
    assert total.documents_fim == 2
    assert total.plain_too_short == 1
    assert total.source_tokens_chosen == sum(len(encode(t)) for t in ("the end", "ab", "中" * 60))


@given(text=texts, key=keys, piece=st.integers(0, 1000), seed=st.integers(0, 2**63))
def test_split_points_are_sorted_code_points(text: str, key: bytes, piece: int, seed: int) -> None:
    first, second = split_of(key, piece, text, seed=seed)
    assert 0 <= first <= second <= len(text)
    prefix, middle, suffix = split_text(text, (first, second))
    assert prefix + middle + suffix == text


def test_split_points_are_uniform_independent_and_keyed() -> None:
    rng = np.random.default_rng(0)
    pairs = Counter(split_of(rng.bytes(16), 0, "abc", seed=5) for _ in range(16_000))
    # Two draws over 0..3: equal draws have chance 1/16, different ones 2/16.
    assert len(pairs) == 10
    for (first, second), count in pairs.items():
        expected = 1000 if first == second else 2000
        assert abs(count - expected) < 5 * np.sqrt(expected)
    drawn = {
        split_of(b"k" * 16, piece, "x" * 10**6, seed=seed) for piece in (0, 1) for seed in (0, 1)
    }
    assert len(drawn) == 4


def test_lines_are_split_at_their_starts_and_one_line_at_code_points() -> None:
    rng = np.random.default_rng(0)
    text = "one\ntwo\n\nthree"
    pairs = {split_of(rng.bytes(16), 0, text, seed=5, by_lines=True) for _ in range(2000)}
    borders = (0, 4, 8, 9, 14)
    assert pairs == {(a, b) for a in borders for b in borders if a <= b}
    assert {split_of(rng.bytes(16), 0, "abc\n", seed=5, by_lines=True)[0] for _ in range(500)} == {
        0,
        1,
        2,
        3,
        4,
    }


def test_mixed_mode_draws_each_order_for_half_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    config = PackConfig(context=64, fim_mode="mixed")
    sources = [
        FimSource(ids=encode("abcdef"), key=rng.bytes(16), tails=np.array([], dtype=np.int64))
        for _ in range(4000)
    ]
    made, counts = fim_documents(sources, codec(), config)
    assert counts.pieces_fim == 4000
    assert abs(counts.pieces_spm - 2000) < 5 * np.sqrt(1000)
    alone = [fim_documents([source], codec(), config)[0][0] for source in sources[:50]]
    for together, single in zip(made, alone, strict=False):
        assert [piece.ids.tolist() for piece in together] == [p.ids.tolist() for p in single]


def test_the_rate_of_chosen_documents_is_binomial_and_keyed() -> None:
    raw = np.random.default_rng(1).integers(0, 256, (200_000, 16), dtype=np.uint8)
    words = keys_to_words(raw)
    chosen = choose_documents(words, rate=0.1, seed=0)
    assert abs(chosen.mean() - 0.1) < 5 * np.sqrt(0.09 / 200_000)
    assert np.array_equal(chosen[::-1], choose_documents(words[::-1], rate=0.1, seed=0))
    other = choose_documents(words, rate=0.1, seed=1)
    assert abs((chosen & other).mean() - 0.01) < 0.002
    assert not choose_documents(words, rate=0.0, seed=0).any()
    assert choose_documents(words, rate=1.0, seed=0).all()
    # A higher rate keeps the documents of a lower one.
    assert np.all(choose_documents(words, rate=0.5, seed=0)[chosen])


@given(st.lists(st.lists(st.integers(0, 255), max_size=6), min_size=3, max_size=3))
def test_parse_is_the_inverse_of_assemble(parts: list[list[int]]) -> None:
    prefix, middle, suffix = (np.array(part, dtype=np.int32) for part in parts)
    ids = assemble_psm(prefix, suffix, middle, CONTROL)
    assert ids.dtype == np.int32
    assert [part.tolist() for part in parse_psm(ids, CONTROL)] == parts
    ids = assemble_spm(prefix, suffix, middle, CONTROL)
    assert [part.tolist() for part in parse_spm(ids, CONTROL)] == parts
    with pytest.raises(IntegrityError, match="does not start with fim_begin"):
        parse_psm(ids, CONTROL)


BEGIN, HOLE, END, EOS = CONTROL.fim_begin, CONTROL.fim_hole, CONTROL.fim_end, CONTROL.eos


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], "does not start with fim_begin"),
        ([1, BEGIN, HOLE, END, EOS], "does not start with fim_begin"),
        ([BEGIN], "does not end with the EOS"),
        ([BEGIN, 1, HOLE, 2, END, 3], "does not end with the EOS"),
        ([BEGIN, 1, 2, END, 3, EOS], "has fim_hole 0 times instead of once"),
        ([BEGIN, HOLE, 1, HOLE, 2, END, 3, EOS], "has fim_hole 2 times instead of once"),
        ([BEGIN, HOLE, 2, 3, EOS], "has fim_end 0 times instead of once"),
        ([BEGIN, HOLE, END, 2, END, 3, EOS], "has fim_end 2 times instead of once"),
        ([BEGIN, 1, END, 2, HOLE, 3, EOS], "has fim_end at 2, before fim_hole at 4"),
        ([BEGIN, BEGIN, HOLE, END, EOS], "has a control id inside its text"),
        ([BEGIN, HOLE, EOS, END, EOS], "has a control id inside its text"),
        ([BEGIN, HOLE, END, CONTROL.pad, EOS], "has a control id inside its text"),
        ([BEGIN, HOLE, END, EOS, EOS], "has a control id inside its text"),
    ],
)
def test_a_faulty_sample_is_refused(ids: list[int], text: str) -> None:
    with pytest.raises(IntegrityError, match=text) as caught:
        parse_psm(np.array(ids, dtype=np.int32), CONTROL)
    assert caught.value.fix == "pack again from the token shards"
    assert str(len(ids)) in caught.value.where
    assert caught.value.effect


def test_every_single_change_of_a_control_id_is_found() -> None:
    whole = assemble_psm(*(np.array([1, 2], dtype=np.int32) for _ in range(3)), CONTROL)
    found = 0
    for place in range(len(whole)):
        for value in (7, *(BEGIN, HOLE, END, EOS)):
            if (whole[place] == value) or (whole[place] < 256 and value == 7):
                continue
            changed = whole.copy()
            changed[place] = value
            with pytest.raises(IntegrityError, match="a FIM piece"):
                parse_psm(changed, CONTROL)
            found += 1
    assert found == 4 * 4 + 6 * 4
