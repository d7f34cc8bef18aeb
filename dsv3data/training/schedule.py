"""What changes during training: pure functions of step and tokens already seen [§4.2]."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsv3data.training.config import BalanceConfig, MTPConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The values in force during one step."""

    lr: float
    gamma: float
    mtp_weight: float
    batch_rows: int


def knobs(config: TrainConfig, *, step: int, tokens: int) -> Knobs:
    """Values for step number `step` (from 0), before which `tokens` tokens were trained on."""
    return Knobs(
        lr=learning_rate(config, step=step, tokens=tokens),
        gamma=bias_speed(config.balance, tokens),
        mtp_weight=mtp_weight(config.mtp, tokens) if config.model.mtp_depth else 0.0,
        batch_rows=batch_rows(config, tokens),
    )


def learning_rate(config: TrainConfig, *, step: int, tokens: int) -> float:
    """V3: 0 → 2.2e-4 in 2K steps, flat to 10T tokens, cosine to 2.2e-5 over 4.3T, then two tails.

    `constant_tokens` is counted from the start of training, warm-up included, as the paper does.
    """
    schedule, peak = config.schedule, config.optimizer.lr
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    decayed_tokens = tokens - schedule.constant_tokens
    if decayed_tokens <= 0 or schedule.cosine_tokens == 0:
        return peak
    if decayed_tokens < schedule.cosine_tokens:
        progress = decayed_tokens / schedule.cosine_tokens
        blend = (1 + math.cos(math.pi * progress)) / 2
        return schedule.min_lr + (peak - schedule.min_lr) * blend
    tail_tokens = decayed_tokens - schedule.cosine_tokens
    if schedule.tail_tokens == 0 or tail_tokens < schedule.tail_tokens:
        return schedule.min_lr
    return schedule.final_lr


def bias_speed(balance: BalanceConfig, tokens: int) -> float:
    """gamma; V3: 0.001 for 14.3T tokens, then 0."""
    over = balance.gamma_off_after_tokens
    return 0.0 if over and tokens >= over else balance.gamma


def mtp_weight(mtp: MTPConfig, tokens: int) -> float:
    """lambda; V3: 0.3 for 10T tokens, then 0.1."""
    late = mtp.late_after_tokens
    return mtp.late_loss_weight if late and tokens >= late else mtp.loss_weight


def batch_rows(config: TrainConfig, tokens: int) -> int:
    """V3: from 3,072 to 15,360 rows over the first 469B tokens.

    Linear in tokens, in multiples of the micro-batch: our choice, not published.
    """
    start, ramp = config.batch_start_rows, config.batch_ramp_tokens
    if tokens >= ramp:
        return config.batch_rows
    micro = config.micro_batch_rows or 1
    return (start + (config.batch_rows - start) * tokens // ramp) // micro * micro


def planned_tokens(config: TrainConfig) -> int:
    """Tokens of the whole run, padding counted. Cost: 0.3 microseconds a step of a ramp."""
    tokens = steps = 0
    while steps < config.steps and tokens < config.batch_ramp_tokens:
        tokens += batch_rows(config, tokens) * config.model.context
        steps += 1
    return tokens + (config.steps - steps) * config.batch_rows * config.model.context
