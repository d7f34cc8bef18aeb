"""The DeepSeek-V3 architecture [arXiv 2412.19437 §2], one concept a file.

`config.py` says the sizes; `transformer.py` is the whole, built from `block.py` (`mla.py`,
`mlp.py`, `moe.py` with its `router.py`) and `mtp.py`. `accounting.py` counts parameters and FLOP,
`hf_names.py` speaks the names of the released weights.
"""
