"""Judging a tokenizer on text: compression, use of the vocabulary, and others beside it."""
