"""The engines that turn document text into ids, behind one interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dsv3data.encoding.vocabulary import Vocabulary


class DocumentEncoder(Protocol):
    """Encodes documents. Control-token text in them comes out as the ids of its characters."""

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all texts one after the other, int32 [T], and offsets, int64 [len(texts) + 1]."""


class HuggingFaceEncoder:
    """The reference engine: `tokenizers` on a copy of the tokenizer without its added tokens.

    `tokenizers` turns the text of an added token into its control id wherever it stands. Its switch
    `encode_special_tokens` covers only tokens marked special (DeepSeek-V3's FIM and chat tokens are
    not) and is lost on save and load; with the list of added tokens emptied there is nothing to
    match. About 1 MB/s a core.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        tree = json.loads(vocabulary.tokenizer_json)
        tree["added_tokens"] = []
        tree["post_processor"] = None
        tree["truncation"] = None
        tree["padding"] = None
        self._tokenizer = Tokenizer.from_str(json.dumps(tree))

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """See `DocumentEncoder.encode`."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        parts = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        values = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        return values, offsets
