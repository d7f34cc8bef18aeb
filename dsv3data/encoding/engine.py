"""What every encode engine does: document text in, flat ids out.

An engine is built from `Vocabulary.document_json`, in which nothing is left that could match the
text of a control token, so that no engine can yield a control id from a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DocumentEncoder(Protocol):
    """Encodes documents. Control-token text in them comes out as the ids of its characters."""

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts one after the other, int32 [T], and offsets, int64 [len(texts) + 1]."""
