"""Hugging Face's `tokenizers`: the reference engine, about 1 MB/s a core."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dsv3data.encoding.vocabulary import Vocabulary


class HuggingFaceEncoder:
    """The oracle of every other engine, and the fallback where none is installed.

    `tokenizers` turns the text of an added token into its control id wherever it stands. Its switch
    `encode_special_tokens` covers only tokens marked special (DeepSeek-V3's FIM and chat tokens are
    not) and is lost on save and load; with the list of added tokens emptied there is nothing to
    match.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokenizer = Tokenizer.from_str(vocabulary.document_json)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """See `DocumentEncoder.encode`."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        parts = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        values = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        return values, offsets
