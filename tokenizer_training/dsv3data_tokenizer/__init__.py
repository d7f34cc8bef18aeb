"""Training and judging the byte-level BPE tokenizer of DeepSeek-V3."""
