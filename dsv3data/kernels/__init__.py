"""FP8 training after DeepSeek-V3 [arXiv 2412.19437 §3.3]: formats, quantisation, GEMMs, autograd.

`formats.py` says what the numbers are, `reference.py` is every operation in plain torch, and
`device/` is the same operations as Triton kernels. `dispatch.py` chooses between the two;
`linear.py` and `experts.py` are what a model calls.
"""
