"""What training needs from the packed data; `dsv3data.loader` provides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Dataset(Protocol):
    """A verified set of packed rows."""

    @property
    def context(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def domains(self) -> Sequence[str]: ...
    @property
    def token_bytes(self) -> NDArray[np.int32]: ...


class Batch(Protocol):
    """n rows of L ids; the first `n_tokens` of a row count, the rest is padding. `domain_ids` are
    places in the data set's `domains`; `piece_lengths` are those of each row's pieces."""

    @property
    def input_ids(self) -> NDArray[np.int32]: ...
    @property
    def n_tokens(self) -> NDArray[np.int32]: ...
    @property
    def row_ids(self) -> NDArray[np.int64]: ...
    @property
    def domain_ids(self) -> NDArray[np.int32]: ...
    @property
    def piece_lengths(self) -> Sequence[NDArray[np.int32]]: ...


class Stream(Protocol):
    """Rows in the run's order, from a position that a few plain values describe."""

    def next(self, n: int) -> Batch: ...
    def state(self) -> Mapping[str, int | str]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...
