"""Checks that a loss term or a rule is alive: the ways in which other trainers were silently wrong.

They run on the first steps of a run and cost nothing afterwards.
"""

from __future__ import annotations

import math

from dsv3data.contracts.errors import Dsv3DataError
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.data import Batch
from dsv3data.training.loss import n_targets
from dsv3data.training.schedule import Knobs
from dsv3data.training.step import StepResult, texts_of

GUARDED_STEPS = 3


def check_first_steps(
    model: Transformer, batch: Batch, result: StepResult, knobs: Knobs, config: TrainConfig
) -> None:
    """Look at a step that was not skipped.

    Raises:
        Dsv3DataError: a term of the loss is dead or left out of it, the biases do not move, or
            loads are miscounted.
    """
    has_targets = any(n_targets(lengths, ahead=2) for lengths in texts_of(batch, config))
    if config.model.mtp_depth and has_targets and result.mtp_loss == 0:
        raise _dead("the multi-token prediction loss is exactly 0", "mtp.loss_weight")
    if model.routers():
        _check_routers(model, result, knobs, config)
    _check_sum(result, knobs, config)


def _check_routers(
    model: Transformer, result: StepResult, knobs: Knobs, config: TrainConfig
) -> None:
    _check_loads(model, result)
    if config.balance.alpha > 0 and result.balance_loss == 0:
        raise _dead("the sequence-wise balance loss is exactly 0", "balance.alpha")
    uneven = any((load_E != load_E[0]).any() for load_E in result.loads)
    if knobs.gamma > 0 and uneven and result.bias_shift == 0:
        raise _dead("no router bias moved although the load is uneven", "balance.gamma")


def _check_sum(result: StepResult, knobs: Knobs, config: TrainConfig) -> None:
    """What is minimised is next token + lambda · token after next + alpha · balance, no less."""
    terms = result.main_loss + knobs.mtp_weight * result.mtp_loss
    terms += config.balance.alpha * result.balance_loss
    if not math.isclose(result.loss, terms, rel_tol=2e-6):
        raise _dead(
            f"the loss is {result.loss}, the sum of its weighted terms {terms}",
            "mtp.loss_weight, balance.alpha",
        )


def _check_loads(model: Transformer, result: StepResult) -> None:
    """Every valid token visits exactly top_k experts of a layer: counted once, none dropped."""
    top_k = model.config.top_k
    for number, load_E in enumerate(result.loads):
        is_mtp = model.mtp is not None and number == len(result.loads) - 1
        # The MTP block sees pairs of neighbouring tokens: as many as there are next tokens.
        tokens = int(result.row_targets_B.sum()) if is_mtp else result.n_tokens
        expected = tokens * top_k
        if int(load_E.sum()) != expected:
            raise _dead(
                f"expert loads of MoE layer {number} sum to {int(load_E.sum()):,} instead of "
                f"{expected:,}",
                "the router (is it called twice, or inside a recomputation?)",
            )


def _dead(what: str, where: str) -> Dsv3DataError:
    return Dsv3DataError(
        what,
        where=where,
        effect="training would go on without this rule of the paper; it was stopped",
        fix="set the value to 0 if this is what you want, else report it as a bug",
    )
