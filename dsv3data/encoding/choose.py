"""Which engine encodes: the fastest one that is installed and proves itself on this tokenizer."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.encoding.engine import DocumentEncoder
from dsv3data.encoding.fastokens import FastokensEncoder
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.probe import first_difference, probe_texts
from dsv3data.encoding.vocabulary import Vocabulary

EngineName = Literal["auto", "fastokens", "huggingface"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
ORACLE = "huggingface"
# By speed, fastest first. The oracle is none of them: it is what is left.
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


def choose_engine(
    vocabulary: Vocabulary, wanted: str, *, note: Callable[[str], None]
) -> ChosenEngine:
    """The engine to use; with `auto`, why a faster one was not taken is told to `note`.

    Loading takes two to three seconds for 128,000 entries.

    Raises:
        EnvironmentFault: the wanted engine is not installed.
        BadConfig: the wanted engine does not give the oracle's ids for this tokenizer.
    """
    oracle = HuggingFaceEncoder(vocabulary)
    for name in _FAST if wanted == "auto" else (wanted,) if wanted != ORACLE else ():
        try:
            return ChosenEngine(name=name, encoder=_proven(name, vocabulary, oracle), oracle=oracle)
        except ImportError as error:
            if wanted != "auto":
                raise _not_installed(name) from error
            note(f"{name} is not installed: {ORACLE} encodes, about a hundred times slower")
        except _Refused as refusal:
            if wanted != "auto":
                raise _unequal(name, str(refusal)) from refusal
            note(f"{name} was refused for this tokenizer: {refusal}; {ORACLE} encodes")
    return ChosenEngine(name=ORACLE, encoder=oracle, oracle=oracle)


def _proven(name: str, vocabulary: Vocabulary, oracle: DocumentEncoder) -> DocumentEncoder:
    texts = probe_texts(vocabulary)
    try:
        engine = _FAST[name](vocabulary)
        difference = first_difference(texts, engine, oracle)
    except ImportError:
        raise
    except Exception as error:  # whatever foreign code raises: it is not used
        raise _Refused(f"it fails ({str(error)[:200]})") from error
    if difference is not None:
        described = difference.describe(vocabulary)
        raise _Refused(f"{described} in {texts[difference.text][:40]!r}")
    return engine


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
