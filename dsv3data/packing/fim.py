"""Fill-in-the-middle at document level, before packing (arXiv 2412.19437 §4.1).

A chosen document is split at two code points and written prefix, suffix, middle (PSM):

    <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>

The text is split, not the ids: a split inside a token would otherwise never occur, and the model
would learn that holes start at token borders. The three parts are encoded anew; the sentinels are
spliced in as ids, so that text which looks like one stays text.

Only a document whose n tokens and EOS exceed a row is ever cut, chosen or not. A piece that cannot
be a faithful sample within one row stays plain and is counted with its reason.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import keyed_u64, keyed_u64_scalar, uniform_unit
from dsv3data.contracts.special_tokens import ControlIds
from dsv3data.packing.config import PackConfig

Ids = NDArray[np.int32]

SENTINELS = 3
# Ids that a sample adds to the tokens of its text: the sentinels and the EOS.
ADDED_IDS = SENTINELS + 1
# A code point has at most four bytes, so at most three tokens in a row start inside one.
_MAX_CONTINUATION = 3

PLAIN = 0
FIM_PSM = 1


@dataclass(frozen=True, kw_only=True)
class FimPiece:
    """One piece of a chosen document.

    Attributes:
        ids: the ids to be packed, sentinels and EOS included where they are due, int32.
        flag: FIM_PSM or PLAIN, as in the shard's column `piece_flags`.
        start, stop: tokens of the document that it was made of.
        split: first code point of the middle and of the suffix, counted within the piece;
            (-1, -1) when plain.
    """

    ids: Ids
    flag: int
    start: int
    stop: int
    split: tuple[int, int]


@dataclass(kw_only=True)
class FimCounts:
    """What became of the chosen documents; counts of workers add up with `add`.

    The rate by documents is `documents_fim` over all documents, the rate by tokens
    `source_tokens_fim` over all tokens of the store.
    """

    documents_chosen: int = 0
    documents_fim: int = 0
    pieces_fim: int = 0
    source_tokens_chosen: int = 0
    source_tokens_fim: int = 0
    sample_ids_fim: int = 0
    plain_too_short: int = 0
    plain_too_long: int = 0
    plain_not_text: int = 0
    plain_not_reversible: int = 0

    def add(self, other: FimCounts) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(frozen=True, kw_only=True)
class Codec:
    """The tokenizer as this room sees it.

    Attributes:
        encode: text → ids, int32; must treat control-token text as text.
        decode: ids → the bytes they stand for.
        starts_inside: bool [vocabulary]; true for ids whose first byte continues a code point.
        control: ids of the control tokens.
    """

    encode: Callable[[str], Ids]
    decode: Callable[[Ids], bytes]
    starts_inside: NDArray[np.bool_]
    control: ControlIds


def choose_documents(words: NDArray[np.uint64], *, rate: float, seed: int) -> NDArray[np.bool_]:
    """Which documents become FIM, bool [N]: each with probability `rate`, from its key alone."""
    chosen: NDArray[np.bool_] = (
        uniform_unit(keyed_u64(words, seed=seed, purpose="fim-choice")) < rate
    )
    return chosen


def fim_document(
    ids: Ids, key: bytes, codec: Codec, config: PackConfig
) -> tuple[list[FimPiece], FimCounts]:
    """Pieces of one chosen document, in document order, and what became of them.

    The bytes of the document are the concatenation, over the pieces, of the decoded plain ids or
    of prefix + middle + suffix, whatever `codec.encode` returns: a sample that does not decode to
    its text stays plain. The last piece always ends with the EOS, a FIM piece always does.
    """
    counts = FimCounts(documents_chosen=1, source_tokens_chosen=len(ids))
    borders = cut_at_codepoints(ids, codec.starts_inside, context=config.context)
    pieces = []
    for number, (start, stop) in enumerate(itertools.pairwise(borders)):
        source = ids[start:stop]
        sample = _fim_sample(source, key, number, codec, config, counts)
        if sample is None:
            tail = [codec.control.eos] if stop == len(ids) else []
            plain = np.append(source, np.array(tail, dtype=np.int32))
            piece = FimPiece(ids=plain, flag=PLAIN, start=start, stop=stop, split=(-1, -1))
        else:
            row, split = sample
            piece = FimPiece(ids=row, flag=FIM_PSM, start=start, stop=stop, split=split)
            counts.pieces_fim += 1
            counts.source_tokens_fim += stop - start
            counts.sample_ids_fim += len(row)
        pieces.append(piece)
    counts.documents_fim = int(counts.pieces_fim > 0)
    return pieces, counts


def cut_at_codepoints(ids: Ids, starts_inside: NDArray[np.bool_], *, context: int) -> list[int]:
    """Token borders 0 … n of the pieces of a chosen document.

    One piece if the document and its EOS fit a row as they are; else pieces of at most
    `piece_budget(context)` tokens, each border moved back to the start of a code point.
    """
    if len(ids) + 1 <= context:
        return [0, len(ids)]
    budget = piece_budget(context)
    borders = [0]
    while len(ids) - borders[-1] > budget:
        latest = borders[-1] + budget
        candidates = range(latest, latest - _MAX_CONTINUATION - 1, -1)
        starts = (border for border in candidates if not starts_inside[ids[border]])
        borders.append(next(starts, latest))  # no start: not a text, the piece will stay plain
    return [*borders, len(ids)]


def piece_budget(context: int) -> int:
    """Tokens of text put into one FIM piece of a document that has to be cut.

    Below the row's room by 1/16, at most 16 tokens: encoding three parts apart breaks the tokens
    at the two splits and shifts the merges next to them.
    """
    return context - ADDED_IDS - min(16, context // 16)


def split_points(key: bytes, piece: int, n_codepoints: int, *, seed: int) -> tuple[int, int]:
    """(first code point of the middle, of the suffix): two uniform draws from 0..n, sorted."""
    draws = sorted(
        keyed_u64_scalar(key, seed=seed, purpose=purpose, counter=piece) * (n_codepoints + 1) >> 64
        for purpose in ("fim-split", "fim-split-second")
    )
    return draws[0], draws[1]


def split_text(text: str, split: tuple[int, int]) -> tuple[str, str, str]:
    """(prefix, middle, suffix) at two code points."""
    first, second = split
    return text[:first], text[first:second], text[second:]


def assemble_psm(prefix: Ids, suffix: Ids, middle: Ids, control: ControlIds) -> Ids:
    """<fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>, int32."""
    marks = np.array(
        [control.fim_begin, control.fim_hole, control.fim_end, control.eos], dtype=np.int32
    )
    parts = [marks[0:1], prefix, marks[1:2], suffix, marks[2:3], middle, marks[3:4]]
    return np.concatenate(parts).astype(np.int32, copy=False)


def parse_psm(ids: Ids, control: ControlIds) -> tuple[Ids, Ids, Ids]:
    """(prefix, middle, suffix) of a FIM piece: the inverse of `assemble_psm`.

    Raises:
        IntegrityError: anything but begin, hole, end and EOS once each, in their places, and no
            other control id between them.
    """
    if not len(ids) or ids[0] != control.fim_begin:
        raise _not_psm("does not start with fim_begin", ids)
    if len(ids) == 1 or ids[-1] != control.eos:
        raise _not_psm("does not end with the EOS", ids)
    hole = _only(ids, control.fim_hole, "fim_hole")
    end = _only(ids, control.fim_end, "fim_end")
    if end < hole:
        raise _not_psm(f"has fim_end at {end}, before fim_hole at {hole}", ids)
    prefix, suffix, middle = ids[1:hole], ids[hole + 1 : end], ids[end + 1 : -1]
    for part in (prefix, suffix, middle):
        if has_control(part, control):
            raise _not_psm("has a control id inside its text", ids)
    return prefix, middle, suffix


def has_control(ids: Ids, control: ControlIds) -> bool:
    """Whether any id is one of the six control ids that the data path writes."""
    return bool(np.isin(ids, dataclasses.astuple(control)).any())


def _fim_sample(
    source: Ids, key: bytes, number: int, codec: Codec, config: PackConfig, counts: FimCounts
) -> tuple[Ids, tuple[int, int]] | None:
    """A piece's sample and its split points; None, counted with the reason, if it stays plain."""
    raw = codec.decode(source)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        counts.plain_not_text += 1
        return None
    if len(text) < config.fim_min_codepoints:
        counts.plain_too_short += 1
        return None
    split = split_points(key, number, len(text), seed=config.seed)
    prefix, middle, suffix = (codec.encode(part) for part in split_text(text, split))
    if len(prefix) + len(middle) + len(suffix) + ADDED_IDS > config.context:
        counts.plain_too_long += 1
        return None
    decoded = (codec.decode(prefix), codec.decode(middle), codec.decode(suffix))
    faithful = decoded == tuple(part.encode() for part in split_text(text, split))
    if not faithful or any(has_control(part, codec.control) for part in (prefix, middle, suffix)):
        counts.plain_not_reversible += 1
        return None
    return assemble_psm(prefix, suffix, middle, codec.control), split


def _only(ids: Ids, sentinel: int, name: str) -> int:
    places = np.flatnonzero(ids == sentinel)
    if len(places) != 1:
        raise _not_psm(f"has {name} {len(places)} times instead of once", ids)
    return int(places[0])


def _not_psm(what: str, ids: Ids) -> IntegrityError:
    return IntegrityError(
        f"a FIM piece {what}",
        where=f"a piece of {len(ids)} ids",
        effect="its prefix, middle and suffix cannot be told apart",
        fix="pack again from the token shards",
    )
