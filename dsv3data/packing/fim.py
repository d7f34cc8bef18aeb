"""Fill-in-the-middle at document level, before packing (arXiv 2412.19437 §4.1).

A chosen document is split in three, and its parts change places. Prefix, suffix, middle (PSM, what
DeepSeek-V3 has) or suffix, prefix, middle (SPM, arXiv 2207.14255 §3):

    <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>
    <fim_hole> suffix <fim_begin> prefix <fim_end> middle <eos>

The text is split, not the ids: a split inside a token would otherwise never occur, and the model
would learn that holes start at token borders. The three parts are encoded anew; the sentinels are
spliced in as ids, so that text which looks like one stays text. Parts are debiased like any text.

Only a document whose n tokens and EOS exceed a row is ever cut, chosen or not. A piece that cannot
be a faithful sample within one row stays plain and is counted with its reason.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import (
    KEY_BYTES,
    keyed_u64,
    keyed_u64_scalar,
    keys_to_words,
    uniform_unit,
)
from dsv3data.contracts.special_tokens import ControlIds
from dsv3data.packing.config import PackConfig
from dsv3data.packing.debias import Debiased, SplitTable, debias
from dsv3data.packing.lookup import marked_places

Ids = NDArray[np.int32]

SENTINELS = 3
# Ids that a sample adds to the tokens of its text: the sentinels and the EOS.
ADDED_IDS = SENTINELS + 1
# A code point has at most four bytes, so at most three tokens in a row start inside one.
_MAX_CONTINUATION = 3
_NO_SPLIT = (-1, -1)

PLAIN = 0
FIM_PSM = 1
FIM_SPM = 2
FLAGS = (PLAIN, FIM_PSM, FIM_SPM)


@dataclass(frozen=True, kw_only=True)
class FimSource:
    """A document chosen for FIM.

    Attributes:
        ids: its ids, debiased, int32.
        key: its key, 16 bytes.
        tails: places in `ids` of the second halves of split tokens, ascending, int64.
    """

    ids: Ids
    key: bytes
    tails: NDArray[np.int64]

    def stored(self, border: int) -> int:
        """A border between ids as one between the ids of the token shard."""
        return border - int(self.tails.searchsorted(border))


@dataclass(frozen=True, kw_only=True)
class FimPiece:
    """One piece of a chosen document.

    Attributes:
        ids: the ids to be packed, sentinels and EOS included where they are due, int32.
        flag: FIM_PSM, FIM_SPM or PLAIN, as in the shard's column `piece_flags`.
        start, stop: tokens of the stored document that it was made of.
        n_debiased: split tokens in `ids`.
        split: first code point of the middle and of the suffix, counted within the piece;
            (-1, -1) when plain.
    """

    ids: Ids
    flag: int
    start: int
    stop: int
    n_debiased: int
    split: tuple[int, int]


@dataclass(kw_only=True)
class FimCounts:
    """What became of the chosen documents; counts of workers add up with `add`.

    The rate by documents is `documents_fim` over all documents, the rate by tokens
    `source_tokens_fim` over all tokens of the store (both counted before debiasing).
    """

    documents_chosen: int = 0
    documents_fim: int = 0
    pieces_fim: int = 0
    pieces_spm: int = 0
    source_tokens_chosen: int = 0
    source_tokens_fim: int = 0
    sample_ids_fim: int = 0
    sample_tokens_debiased: int = 0
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
        encode: texts → ids of all one after the other, int32, and offsets, int64 [texts + 1]; must
            treat control-token text as text.
        decode: ids and ascending borders between them, int64 [runs + 1], the first 0 and the last
            the number of ids → the bytes of each run.
        starts_inside: bool [vocabulary]; true for ids whose first byte continues a code point.
        control: ids of the control tokens that packing writes.
        is_control: bool [vocabulary]; true for ids that no text may give.
        splits: the splittable ids.
    """

    encode: Callable[[Sequence[str]], tuple[Ids, NDArray[np.int64]]]
    decode: Callable[[Ids, NDArray[np.int64]], list[bytes]]
    starts_inside: NDArray[np.bool_]
    control: ControlIds
    is_control: NDArray[np.bool_]
    splits: SplitTable


def choose_documents(words: NDArray[np.uint64], *, rate: float, seed: int) -> NDArray[np.bool_]:
    """Which documents become FIM, bool [N]: each with probability `rate`, from its key alone."""
    chosen: NDArray[np.bool_] = (
        uniform_unit(keyed_u64(words, seed=seed, purpose="fim-choice")) < rate
    )
    return chosen


def fim_documents(
    sources: Sequence[FimSource], codec: Codec, config: PackConfig, *, by_lines: bool = False
) -> tuple[list[list[FimPiece]], FimCounts]:
    """Pieces of each chosen document, in document order, and what became of them.

    The bytes of a document are the concatenation, over its pieces, of the decoded plain ids or of
    prefix + middle + suffix, whatever `codec.encode` returns: a sample that does not decode to
    its text stays plain. The last piece always ends with the EOS, a FIM piece always does.
    All texts are decoded and all parts encoded in one call; the pieces of a document do not depend
    on the others.
    """
    counts = FimCounts(documents_chosen=len(sources))
    whole = [draft for source in sources for draft in _cut(source, codec, config)]
    drafts = [*_split_texts(whole, codec, config, counts, by_lines=by_lines)]
    samples = _samples([draft for draft in drafts if draft.parts], codec, config)
    made: list[list[FimPiece]] = []
    for draft in drafts:
        if draft.number == 0:
            made.append([])
        if draft.parts:
            made[-1].append(_sample_piece(draft, next(samples), codec, config, counts))
        else:
            made[-1].append(_plain_piece(draft, codec))
    counts.source_tokens_chosen = sum(source.stored(len(source.ids)) for source in sources)
    counts.documents_fim = sum(any(piece.flag != PLAIN for piece in of) for of in made)
    return made, counts


def cut_at_codepoints(
    ids: Ids,
    starts_inside: NDArray[np.bool_],
    *,
    context: int,
    tails: NDArray[np.int64] | None = None,
) -> list[int]:
    """Token borders 0 … n of the pieces of a chosen document.

    One piece if the document and its EOS fit a row as they are; else pieces of at most
    `piece_budget(context)` tokens, each border moved back to the start of a code point and to
    before both halves of a split token.
    """
    if len(ids) + 1 <= context:
        return [0, len(ids)]
    budget = piece_budget(context)
    second_halves = set(tails.tolist()) if tails is not None else set()
    borders = [0]
    while len(ids) - borders[-1] > budget:
        latest = borders[-1] + budget
        latest -= latest in second_halves
        candidates = range(latest, latest - _MAX_CONTINUATION - 1, -1)
        starts = (
            border
            for border in candidates
            if not starts_inside[ids[border]] and border not in second_halves
        )
        borders.append(next(starts, latest))  # no start: not a text, the piece will stay plain
    return [*borders, len(ids)]


def piece_budget(context: int) -> int:
    """Tokens of text put into one FIM piece of a document that has to be cut.

    Below the row's room by 1/16, at most 16 tokens: encoding three parts apart breaks the tokens
    at the two splits and shifts the merges next to them.
    """
    return context - ADDED_IDS - min(16, context // 16)


def split_points(draws: tuple[int, int], text: str, *, by_lines: bool = False) -> tuple[int, int]:
    """(first code point of the middle, of the suffix), sorted, from two uniform 64-bit words.

    From all borders between code points, 0 and the end included; or, `by_lines`, from the line
    starts, the beginning and the end, where the text has a second line.
    """
    places = _line_borders(text) if by_lines else range(len(text) + 1)
    first, second = sorted(places[draw * len(places) >> 64] for draw in draws)
    return first, second


def split_text(text: str, split: tuple[int, int]) -> tuple[str, str, str]:
    """(prefix, middle, suffix) at two code points."""
    first, second = split
    return text[:first], text[first:second], text[second:]


def assemble_psm(prefix: Ids, suffix: Ids, middle: Ids, control: ControlIds) -> Ids:
    """<fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>, int32."""
    begin, hole, end, eos = _marks(control)
    return np.concatenate([begin, prefix, hole, suffix, end, middle, eos])


def assemble_spm(prefix: Ids, suffix: Ids, middle: Ids, control: ControlIds) -> Ids:
    """<fim_hole> suffix <fim_begin> prefix <fim_end> middle <eos>, int32."""
    begin, hole, end, eos = _marks(control)
    return np.concatenate([hole, suffix, begin, prefix, end, middle, eos])


def parse_fim(ids: Ids, flag: int, control: ControlIds) -> tuple[Ids, Ids, Ids]:
    """(prefix, middle, suffix) of a FIM piece with this flag.

    Raises:
        IntegrityError: anything but begin, hole, end and EOS once each, in their places, and no
            other control id between them.
    """
    return parse_spm(ids, control) if flag == FIM_SPM else parse_psm(ids, control)


def parse_psm(ids: Ids, control: ControlIds) -> tuple[Ids, Ids, Ids]:
    """(prefix, middle, suffix) of a PSM piece: the inverse of `assemble_psm`."""
    begin, hole = (control.fim_begin, "fim_begin"), (control.fim_hole, "fim_hole")
    prefix, suffix, middle = _parse(ids, begin, hole, control)
    return prefix, middle, suffix


def parse_spm(ids: Ids, control: ControlIds) -> tuple[Ids, Ids, Ids]:
    """(prefix, middle, suffix) of an SPM piece: the inverse of `assemble_spm`."""
    begin, hole = (control.fim_begin, "fim_begin"), (control.fim_hole, "fim_hole")
    suffix, prefix, middle = _parse(ids, hole, begin, control)
    return prefix, middle, suffix


def has_control(ids: Ids, control: ControlIds) -> bool:
    """Whether any id is one of the six control ids that the data path writes."""
    # Six looks cost less than a search in a set: most pieces are short.
    return any(bool((ids == token).any()) for token in control.every)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A piece before encoding; without `parts` it stays plain."""

    source: FimSource
    number: int
    borders: tuple[int, int]
    parts: tuple[str, str, str] | None = None
    split: tuple[int, int] = _NO_SPLIT

    @property
    def ids(self) -> Ids:
        start, stop = self.borders
        return self.source.ids[start:stop]

    @property
    def stored(self) -> tuple[int, int]:
        start, stop = map(self.source.stored, self.borders)
        return start, stop


@dataclass(frozen=True)
class _Sample:
    """Prefix, middle and suffix encoded and debiased.

    Attributes:
        faithful: whether they decode to the text that they were made of, and no id is a control id.
    """

    parts: tuple[Ids, Ids, Ids]
    n_debiased: int
    faithful: bool


def _cut(source: FimSource, codec: Codec, config: PackConfig) -> list[_Draft]:
    borders = cut_at_codepoints(
        source.ids, codec.starts_inside, context=config.context, tails=source.tails
    )
    return [
        _Draft(source=source, number=number, borders=pair)
        for number, pair in enumerate(itertools.pairwise(borders))
    ]


def _split_texts(
    drafts: Sequence[_Draft], codec: Codec, config: PackConfig, counts: FimCounts, *, by_lines: bool
) -> Iterator[_Draft]:
    """Each draft with its text in three parts, or without any, counted with the reason."""
    runs = [draft.ids for draft in drafts]
    decoded = codec.decode(_joined(runs), np.cumsum([0, *map(len, runs)]))
    words, numbers = _identities(drafts)
    draws = [
        keyed_u64(words, seed=config.draws, purpose=purpose, counter=numbers).tolist()
        for purpose in ("fim-split", "fim-split-second")
    ]
    for draft, data, *draw in zip(drafts, decoded, *draws, strict=True):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            counts.plain_not_text += 1
            yield draft
            continue
        if len(text) < config.fim_min_codepoints:
            counts.plain_too_short += 1
            yield draft
            continue
        split = split_points((draw[0], draw[1]), text, by_lines=by_lines)
        yield dataclasses.replace(draft, parts=split_text(text, split), split=split)


def _identities(drafts: Sequence[_Draft]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys of the documents, uint64 [N, 2], and the numbers of the pieces, uint64 [N]."""
    keys = np.frombuffer(b"".join(draft.source.key for draft in drafts), dtype=np.uint8)
    numbers = np.array([draft.number for draft in drafts], dtype=np.uint64)
    return keys_to_words(keys.reshape(-1, KEY_BYTES)), numbers


def _samples(drafts: Sequence[_Draft], codec: Codec, config: PackConfig) -> Iterator[_Sample]:
    if not drafts:
        return
    texts = [part for draft in drafts for part in draft.parts or ()]
    values, offsets = codec.encode(texts)
    words, numbers = _identities(drafts)
    apart: Debiased = debias(
        values,
        offsets[::3],
        words,
        codec.splits,
        rate=config.debias_rate,
        seed=config.draws,
        purpose="debias-sample",
        first=numbers << np.uint64(32),
    )
    borders = apart.after(offsets)
    faithful = _faithful(texts, apart.values, borders, codec)
    added = np.diff(apart.offsets) - np.diff(offsets[::3])
    for number, n_debiased in enumerate(added.tolist()):
        first, second, third, end = borders[3 * number : 3 * number + 4].tolist()
        ids = apart.values
        parts = (ids[first:second], ids[second:third], ids[third:end])
        yield _Sample(parts, n_debiased, all(faithful[3 * number : 3 * number + 3]))


def _faithful(
    texts: Sequence[str], values: Ids, borders: NDArray[np.int64], codec: Codec
) -> list[bool]:
    """Of each part, whether its ids decode to its text and none is a control id."""
    decoded = codec.decode(values, borders)
    found = [data == text.encode() for data, text in zip(decoded, texts, strict=True)]
    astray = marked_places(values, codec.is_control)
    for part in (np.searchsorted(borders, astray, side="right") - 1).tolist():
        found[part] = False
    return found


def _sample_piece(
    draft: _Draft, sample: _Sample, codec: Codec, config: PackConfig, counts: FimCounts
) -> FimPiece:
    """The piece as FIM; plain, counted with the reason, if that would not be faithful."""
    prefix, middle, suffix = sample.parts
    if len(prefix) + len(middle) + len(suffix) + ADDED_IDS > config.context:
        counts.plain_too_long += 1
        return _plain_piece(draft, codec)
    if not sample.faithful:
        counts.plain_not_reversible += 1
        return _plain_piece(draft, codec)
    flag = _flag(draft, config)
    assemble = assemble_spm if flag == FIM_SPM else assemble_psm
    ids = assemble(prefix, suffix, middle, codec.control)
    start, stop = draft.stored
    counts.pieces_fim += 1
    counts.pieces_spm += flag == FIM_SPM
    counts.source_tokens_fim += stop - start
    counts.sample_ids_fim += len(ids)
    counts.sample_tokens_debiased += sample.n_debiased
    return FimPiece(
        ids=ids,
        flag=flag,
        start=start,
        stop=stop,
        n_debiased=sample.n_debiased,
        split=draft.split,
    )


def _plain_piece(draft: _Draft, codec: Codec) -> FimPiece:
    ids = draft.ids
    start, stop = draft.stored
    n_debiased = len(ids) - (stop - start)
    if draft.borders[1] == len(draft.source.ids):
        ids = np.append(ids, np.array([codec.control.eos], dtype=np.int32))
    return FimPiece(
        ids=ids, flag=PLAIN, start=start, stop=stop, n_debiased=n_debiased, split=_NO_SPLIT
    )


def _flag(draft: _Draft, config: PackConfig) -> int:
    if config.fim_mode == "mixed":
        drawn = keyed_u64_scalar(
            draft.source.key, seed=config.draws, purpose="fim-order", counter=draft.number
        )
        return FIM_SPM if drawn >> 63 else FIM_PSM
    return FIM_SPM if config.fim_mode == "spm" else FIM_PSM


def _line_borders(text: str) -> Sequence[int]:
    """Line starts, 0 and the end; all code points where there is no second line."""
    starts = itertools.accumulate(len(line) + 1 for line in text.split("\n")[:-1])
    borders = sorted({0, *starts, len(text)})
    return borders if len(borders) > 2 else range(len(text) + 1)


def _joined(runs: Sequence[Ids]) -> Ids:
    return np.concatenate([np.empty(0, dtype=np.int32), *runs])


@functools.cache
def _marks(control: ControlIds) -> tuple[Ids, Ids, Ids, Ids]:
    begin, hole, end, eos = (
        np.array([mark], dtype=np.int32)
        for mark in (control.fim_begin, control.fim_hole, control.fim_end, control.eos)
    )
    return begin, hole, end, eos


def _parse(
    ids: Ids, opening: tuple[int, str], second: tuple[int, str], control: ControlIds
) -> tuple[Ids, Ids, Ids]:
    """What stands after the opening mark, after the second and after fim_end."""
    if not len(ids) or ids[0] != opening[0]:
        raise _not_fim(f"does not start with {opening[1]}", ids)
    if len(ids) == 1 or ids[-1] != control.eos:
        raise _not_fim("does not end with the EOS", ids)
    place = _only(ids, *second)
    end = _only(ids, control.fim_end, "fim_end")
    if end < place:
        raise _not_fim(f"has fim_end at {end}, before {second[1]} at {place}", ids)
    parts = ids[1:place], ids[place + 1 : end], ids[end + 1 : -1]
    for part in parts:
        if has_control(part, control):
            raise _not_fim("has a control id inside its text", ids)
    return parts


def _only(ids: Ids, sentinel: int, name: str) -> int:
    places = np.flatnonzero(ids == sentinel)
    if len(places) != 1:
        raise _not_fim(f"has {name} {len(places)} times instead of once", ids)
    return int(places[0])


def _not_fim(what: str, ids: Ids) -> IntegrityError:
    return IntegrityError(
        f"a FIM piece {what}",
        where=f"a piece of {len(ids)} ids",
        effect="its prefix, middle and suffix cannot be told apart",
        fix="pack again from the token shards",
    )
