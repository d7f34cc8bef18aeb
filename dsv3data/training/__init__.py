"""The reference training loop: one process, every rule of the paper in one obvious place.

`run.py` is the entry point, `loop.py` the loop; `step.py` is one optimizer step, `loss.py` what is
minimised, `schedule.py` what changes with time, `checkpoint.py` what survives a kill.
"""
