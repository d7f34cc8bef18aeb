"""Which engine encodes: of those that are installed and prove themselves on this tokenizer, the
fastest on the documents at hand."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.encoding.engine import DocumentEncoder
from dsv3data.encoding.fastokens import FastokensEncoder
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.probe import compare, probe_texts
from dsv3data.encoding.speed import bytes_per_second
from dsv3data.encoding.vocabulary import Vocabulary

EngineName = Literal["auto", "fastokens", "huggingface"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
ORACLE = "huggingface"
# The oracle is none of them: it needs no proof.
_FAST: dict[str, Callable[[Vocabulary], DocumentEncoder]] = {"fastokens": FastokensEncoder}
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
    """Engines with their tables in memory, before any of them but the oracle has encoded.

    A process that has loaded them may fork: they start no thread before they encode.

    Attributes:
        engines: by name; what went wrong where one could not be loaded.
        proof, expected: the probe's texts, and the ids and offsets that the oracle gives for them.
    """

    vocabulary: Vocabulary
    wanted: str
    oracle: DocumentEncoder
    engines: Mapping[str, DocumentEncoder | BaseException]
    proof: Sequence[str]
    expected: tuple[NDArray[np.int32], NDArray[np.int64]]

    def choose(self, *, note: Callable[[str], None], texts: Sequence[str] = ()) -> ChosenEngine:
        """See `choose_engine`."""
        if self.wanted == ORACLE:
            return ChosenEngine(name=ORACLE, encoder=self.oracle, oracle=self.oracle)
        engines: dict[str, DocumentEncoder] = {}
        for name in self.engines:
            try:
                engines[name] = self._proven(name)
            except ImportError as error:
                if self.wanted != "auto":
                    raise _not_installed(name) from error
                note(f"{name} is not installed: {ORACLE} encodes, about a hundred times slower")
            except _Refused as refusal:
                if self.wanted != "auto":
                    raise _unequal(name, str(refusal)) from refusal
                note(f"{name} was refused for this tokenizer: {refusal}; {ORACLE} encodes")
        if self.wanted != "auto":
            return ChosenEngine(name=self.wanted, encoder=engines[self.wanted], oracle=self.oracle)
        measured = [*texts, *self.proof]  # a few short documents say nothing about speed
        candidates = {**engines, ORACLE: self.oracle}
        return _fastest(candidates, self.oracle, measured, note if texts else None)

    def _proven(self, name: str) -> DocumentEncoder:
        engine = self.engines[name]
        try:
            if isinstance(engine, BaseException):
                raise engine
            difference = compare(engine.encode(self.proof), self.expected)
        except ImportError:
            raise
        except Exception as error:  # whatever foreign code raises: it is not used
            raise _Refused(f"it fails ({str(error)[:200]})") from error
        if difference is not None:
            described = difference.describe(self.vocabulary)
            raise _Refused(f"{described} in {self.proof[difference.text][:40]!r}")
        return engine


def load_engines(vocabulary: Vocabulary, wanted: str) -> LoadedEngines:
    """The oracle and the engines to choose from.

    Cost for 128,000 entries: about two seconds of CPU for fastokens, in a thread, and one for the
    oracle with its ids of the probe, meanwhile.
    """
    names = () if wanted == ORACLE else tuple(_FAST) if wanted == "auto" else (wanted,)
    proof = probe_texts(vocabulary) if names else []
    with ThreadPoolExecutor() as threads:
        loading = {name: threads.submit(_FAST[name], vocabulary) for name in names}
        oracle = HuggingFaceEncoder(vocabulary)
        expected = oracle.encode(proof)
    return LoadedEngines(
        vocabulary=vocabulary,
        wanted=wanted,
        oracle=oracle,
        engines={name: each.exception() or each.result() for name, each in loading.items()},
        proof=proof,
        expected=expected,
    )


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

    Cost: that of `load_engines`, a tenth of a second of each engine for the probe, and 0.03 s of
    each for measuring.

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


def _not_installed(name: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"the engine {name} is not installed",
        where=f"--engine {name}",
        effect="nothing was started",
        fix=f"pip install {_PACKAGES[name]}, or --engine auto",
    )


def _unequal(name: str, why: str) -> BadConfig:
    return BadConfig(
        f"the engine {name} does not give the ids of {ORACLE} for this tokenizer: {why}",
        where=f"--engine {name}",
        effect="nothing was started",
        fix="use --engine auto, which takes the fastest engine that does",
    )
