"""The operations of `reference.py` as Triton kernels, for Hopper's FP8 tensor cores.

A kernel file holds kernels alone and imports nothing of ours: they are compiled for sm_90a, and run
in Triton's interpreter, without a GPU. `launch.py` gives them the signatures of `reference.py`.
"""
