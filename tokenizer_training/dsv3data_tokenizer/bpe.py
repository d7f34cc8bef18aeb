"""Training the BPE and dressing it with DeepSeek-V3's control tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from dsv3data.contracts import special_tokens
from dsv3data_tokenizer.chat_template import CHAT_TEMPLATE
from dsv3data_tokenizer.pretokenizer import deepseek_v3_pre_tokenizer

# DeepSeek-V3's window after long-context extension [§4.3].
MODEL_MAX_LENGTH = 131_072


def train_bpe(
    texts: Iterable[str], *, vocab_size: int, min_frequency: int = 0, max_token_bytes: int = 0
) -> Tokenizer:
    """Train a byte-level BPE with up to `vocab_size` entries, the three control ids included.

    Ids: 0-2 control tokens, 3-258 the byte alphabet by code point, then merge i has id 259 + i.
    The same texts give the same merges in any order of texts and on any number of threads.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = deepseek_v3_pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        # Its limit is the first length that no token has.
        max_token_length=max_token_bytes + 1 if max_token_bytes else None,
        special_tokens=list(special_tokens.IN_VOCABULARY),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def add_control_tokens(tokenizer: Tokenizer) -> None:
    """Append the 815 added tokens; their ids follow the vocabulary, in DeepSeek-V3's order."""
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False, special=False) for text in special_tokens.ADDED]
    )


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """tokenizer.json, UTF-8."""
    return (tokenizer.to_str(pretty=True) + "\n").encode("utf-8")


def tokenizer_config_json(embedding_rows: int) -> bytes:
    """tokenizer_config.json for `transformers`, the chat template included.

    `embedding_rows`, the padded size of an embedding table, is for whoever builds a model; it comes
    back in the tokenizer's `init_kwargs`.

    The class is the generic one: `LlamaTokenizerFast` makes transformers 5 replace the
    pre-tokenizer and lose spaces.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special_tokens.BOS,
        "eos_token": special_tokens.EOS,
        "pad_token": special_tokens.PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MODEL_MAX_LENGTH,
        "embedding_rows": embedding_rows,
        "chat_template": CHAT_TEMPLATE,
    }
    return (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
