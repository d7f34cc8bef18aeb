"""Which engine encodes: of those that are installed and prove themselves on this tokenizer, the
fastest on the documents at hand."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig, Dsv3DataError, EnvironmentFault
from dsv3data.encoding.engine import DocumentEncoder
from dsv3data.encoding.fastokens import FastokensEncoder
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.load_ahead import load_ahead
from dsv3data.encoding.probe import compare, probe_texts
from dsv3data.encoding.speed import bytes_per_second
from dsv3data.encoding.vocabulary import Vocabulary, keep_vocabulary

EngineName = Literal["auto", "fastokens", "huggingface"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
ORACLE = "huggingface"
# The oracle is none of them: it needs no proof.
_FAST: dict[str, Callable[[Vocabulary], DocumentEncoder]] = {"fastokens": FastokensEncoder}
# What takes long of building one, begun with `Vocabulary.document_json`: a new process can do that
# before it imports anything else.
_AHEAD: dict[str, Callable[[str], None]] = {"fastokens": load_ahead}
_PACKAGES = {"fastokens": "fastokens", ORACLE: "tokenizers"}


@dataclass(frozen=True, kw_only=True)
class ChosenEngine:
    """The engine of a process, and the oracle that it was and will be measured by."""

    name: str
    encoder: DocumentEncoder
    oracle: DocumentEncoder

    @property
    def is_oracle(self) -> bool:
        """Whether there is nothing to compare with."""
        return self.encoder is self.oracle

    @property
    def described(self) -> str:
        """`fastokens 0.3.5`."""
        package = _PACKAGES[self.name]
        return f"{package} {importlib.metadata.version(package)}"


class _Refused(Exception):
    """The engine cannot be used for this tokenizer."""


@dataclass(frozen=True, kw_only=True)
class LoadedEngines:
    """Engines with their tables in memory, each but the oracle proven for this tokenizer.

    A process that has loaded them may fork, unless the environment asks an engine for threads
    (FASTOKENS_BPE_THREADS, TOKENIZERS_PARALLELISM).

    Attributes:
        engines: by name.
        refused: why the others cannot be used.
        proof: the probe's texts.
    """

    wanted: str
    oracle: DocumentEncoder
    engines: Mapping[str, DocumentEncoder]
    refused: Mapping[str, ImportError | _Refused]
    proof: Sequence[str]

    def choose(self, *, note: Callable[[str], None], texts: Sequence[str] = ()) -> ChosenEngine:
        """See `choose_engine`."""
        for name, refusal in self.refused.items():
            if self.wanted != "auto":
                raise _unusable(name, refusal) from refusal
            note(_told(name, refusal))
        if self.wanted != "auto":
            encoder = {**self.engines, ORACLE: self.oracle}[self.wanted]
            return ChosenEngine(name=self.wanted, encoder=encoder, oracle=self.oracle)
        measured = [*texts, *self.proof]  # a few short documents say nothing about speed
        candidates = {**self.engines, ORACLE: self.oracle}
        return _fastest(candidates, self.oracle, measured, note if texts else None)


def begin_loading(vocabulary: Vocabulary, wanted: str) -> None:
    """Begin what takes longest of `load_engines`, in a thread that ends with it."""
    for step in _first_steps(vocabulary, wanted):
        step()


def hand_over(vocabulary: Vocabulary, wanted: str) -> list[partial[None]]:
    """What another process begins with, so that `load_engines` waits for less there: calls to make
    in this order, plain data.

    The first needs no module that is slow to import: a thread loads the engine while the modules of
    the others are imported. The second brings the vocabulary, which is not parsed again.
    """
    return [*_first_steps(vocabulary, wanted), partial(keep_vocabulary, vocabulary)]


def _first_steps(vocabulary: Vocabulary, wanted: str) -> list[partial[None]]:
    return [
        partial(_AHEAD[name], vocabulary.document_json)
        for name in _fast_names(wanted)
        if name in _AHEAD
    ]


def _fast_names(wanted: str) -> tuple[str, ...]:
    return () if wanted == ORACLE else tuple(_FAST) if wanted == "auto" else (wanted,)


def load_engines(vocabulary: Vocabulary, wanted: str) -> LoadedEngines:
    """The oracle and the engines to choose from. No thread is left.

    Cost for 128,000 entries: a second and a half of CPU for fastokens, in a thread, and one for the
    oracle with its ids of the probe, meanwhile; a tenth for the probe.
    """
    begin_loading(vocabulary, wanted)
    names = _fast_names(wanted)
    proof = probe_texts(vocabulary) if names else []
    oracle = HuggingFaceEncoder(vocabulary)
    expected = oracle.encode(proof)
    engines: dict[str, DocumentEncoder] = {}
    refused: dict[str, ImportError | _Refused] = {}
    for name in names:
        try:
            engines[name] = _proven(_FAST[name], proof, expected, vocabulary)
        except (ImportError, _Refused) as error:
            refused[name] = error
    return LoadedEngines(
        wanted=wanted, oracle=oracle, engines=engines, refused=refused, proof=proof
    )


def _proven(
    build: Callable[[Vocabulary], DocumentEncoder],
    proof: Sequence[str],
    expected: tuple[NDArray[np.int32], NDArray[np.int64]],
    vocabulary: Vocabulary,
) -> DocumentEncoder:
    try:
        engine = build(vocabulary)
        difference = compare(engine.encode(proof), expected)
    except ImportError:
        raise
    except Exception as error:  # whatever foreign code raises: it is not used
        raise _Refused(f"it fails ({str(error)[:200]})") from error
    if difference is not None:
        described = difference.describe(vocabulary)
        raise _Refused(f"{described} in {proof[difference.text][:40]!r}")
    return engine


def choose_engine(
    vocabulary: Vocabulary,
    wanted: str,
    *,
    note: Callable[[str], None],
    texts: Sequence[str] = (),
) -> ChosenEngine:
    """The engine to use.

    With `auto`, engines that give the oracle's ids encode `texts` and the probe's text for a moment
    each, and the fastest is taken. `note` is told which and why (if there are texts), and why
    another one was not asked. The ids are equal: the choice reaches no byte.

    Cost: that of `load_engines`, and 0.03 s of each engine for measuring.

    Args:
        texts: the first documents of the input.

    Raises:
        EnvironmentFault: the wanted engine is not installed.
        BadConfig: the wanted engine does not give the oracle's ids for this tokenizer.
    """
    return load_engines(vocabulary, wanted).choose(note=note, texts=texts)


def _fastest(
    engines: Mapping[str, DocumentEncoder],
    oracle: DocumentEncoder,
    texts: Sequence[str],
    note: Callable[[str], None] | None,
) -> ChosenEngine:
    if len(engines) == 1:
        return ChosenEngine(name=ORACLE, encoder=oracle, oracle=oracle)
    speeds = {name: bytes_per_second(engine, texts) for name, engine in engines.items()}
    ordered = sorted(speeds, key=lambda name: -speeds[name])
    chosen = ChosenEngine(name=ordered[0], encoder=engines[ordered[0]], oracle=oracle)
    if note is not None:
        measured = [f"{name} {speeds[name] / 1e6:.3g} MB/s" for name in ordered]
        note(f"{chosen.described} encodes: on the first documents {', '.join(measured)}")
    return chosen


def _told(name: str, refusal: ImportError | _Refused) -> str:
    if isinstance(refusal, ImportError):
        return f"{name} is not installed: {ORACLE} encodes, about a hundred times slower"
    return f"{name} was refused for this tokenizer: {refusal}; {ORACLE} encodes"


def _unusable(name: str, refusal: ImportError | _Refused) -> Dsv3DataError:
    if isinstance(refusal, ImportError):
        return EnvironmentFault(
            f"the engine {name} is not installed",
            where=f"--engine {name}",
            effect="nothing was started",
            fix=f"pip install {_PACKAGES[name]}, or --engine auto",
        )
    return BadConfig(
        f"the engine {name} does not give the ids of {ORACLE} for this tokenizer: {refusal}",
        where=f"--engine {name}",
        effect="nothing was started",
        fix="use --engine auto, which takes the fastest engine that does",
    )
