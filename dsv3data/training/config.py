"""Everything that decides a training run besides its data. No torch here.

Defaults are DeepSeek-V3's where they were published [§4.2]; comments name our own choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from dsv3data.contracts.errors import BadConfig
from dsv3data.loader.mixture import Stage
from dsv3data.model.config import AttentionBackend, ModelConfig, Precision, Remade

# How far the loss of FP8 may be from that of BF16, relative [§3.3].
FP8_GATE = 0.0025


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW. Weight decay spares one-dimensional weights (norms): our choice, not published."""

    lr: float = 2.2e-4  # the peak; `schedule` shapes it
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8  # our choice
    weight_decay: float = 0.1
    clip: float = 1.0  # largest gradient norm
    moments: Literal["fp32", "bf16"] = "fp32"  # how they are kept; V3: bf16 [§3.3.3]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate: 0 → lr over `warmup_steps`, flat, cosine to `min_lr`, flat, then `final_lr`.

    Lengths are in tokens, counted after the phase before; `cosine_tokens` 0 keeps lr flat for
    ever, `tail_tokens` 0 keeps min_lr for ever.
    """

    warmup_steps: int = 2000
    constant_tokens: int = 0
    cosine_tokens: int = 0
    min_lr: float = 2.2e-5
    tail_tokens: int = 0
    final_lr: float = 7.3e-6


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Load balancing: the bias speed gamma and the weight alpha of the sequence-wise loss."""

    gamma: float = 0.001
    gamma_off_after_tokens: int = 0  # 0: never
    alpha: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class MTPConfig:
    """Weight lambda of the multi-token prediction loss [Eq. 25]."""

    loss_weight: float = 0.3
    late_loss_weight: float = 0.1
    late_after_tokens: int = 0  # 0: never


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """Steps whose loss or gradient stands out from the last `window` ones are skipped, our choice:
    V3 saw no spike that it had to roll back [§1]."""

    z: float = 12.0  # robust standard deviations above the median; 0: never
    window: int = 128


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which rows come, and how they are read."""

    stages: tuple[Stage, ...] = ()  # shares of domains over the run; none: every row once an epoch
    prefetch: int = 2  # batches that a thread reads ahead; 0: none


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """What the device can do and what it costs, for reports; 0: not known."""

    peak_tflop_per_s: float = 0.0  # an H100 or H800: 989 in BF16, dense
    dollars_per_hour: float = 0.0  # V3's report reckons with 2


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """A checkpoint every so many steps and at the end; only the newest `keep` stay."""

    every: int = 50
    keep: int = 2
    asynchronous: bool = True  # training goes on meanwhile, for 12 bytes a parameter of CPU memory


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    mtp: MTPConfig = field(default_factory=MTPConfig)
    spike: SpikeConfig = field(default_factory=SpikeConfig)
    data: DataConfig = field(default_factory=DataConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    steps: int = 100
    batch_rows: int = 2
    batch_start_rows: int = 0  # rows of the first batch, if batches grow; 0: they do not
    batch_ramp_tokens: int = 0  # they have grown to batch_rows after so many tokens
    micro_batch_rows: int = 0  # rows of one forward pass; 0: the whole batch
    precision: Precision = "fp32"  # of linear layers and experts; the rest stays high
    attention: AttentionBackend = "sdpa"  # how its core is computed
    document_mask: bool = False  # no token sees another document; V3 trains without [§4.1]
    recompute: tuple[Remade, ...] = ()  # made again in the backward pass, not kept [§3.2.3]
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0  # of the initial weights and of the order of rows
    nudge: float = 0.0  # relative change of the initial weights: how much of a loss is noise?
    log_every: int = 10
    max_skipped_in_row: int = 3  # steps that could not be used before giving up
    ema_decay: float = 0.0  # of the weights' moving average in CPU memory; 0: none is kept
    threads: int = 0  # 0: torch's choice; another number may change the last bits of a sum

    def __post_init__(self) -> None:
        for name in ("steps", "batch_rows", "log_every", "max_skipped_in_row"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.threads >= 0, "threads", self.threads, "0 (torch's choice) or more")
        micro = self.micro_batch_rows
        divides = micro == 0 or (micro > 0 and self.batch_rows % micro == 0)
        _require(divides, "micro_batch_rows", micro, f"0 or a divisor of {self.batch_rows}")
        self._check_batch_ramp()
        trains = self.attention != "flex" or self.device == "cuda"
        _require(
            trains,
            "attention",
            self.attention,
            "sdpa or math on a CPU (flex has no gradient there)",
        )
        _require(0 <= self.nudge < 1, "nudge", self.nudge, "in [0, 1)")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "in [0, 1)")
        self._check_optimizer()
        self._check_schedule()
        self._check_losses()
        _require(self.spike.z >= 0, "spike.z", self.spike.z, "0 (off) or more")
        _require(self.spike.window >= 4, "spike.window", self.spike.window, "at least 4")
        _require(self.data.prefetch >= 0, "data.prefetch", self.data.prefetch, "0 (off) or more")
        for name in ("peak_tflop_per_s", "dollars_per_hour"):
            value = getattr(self.cost, name)
            _require(value >= 0, f"cost.{name}", value, "0 (not known) or more")
        for name in ("every", "keep"):
            value = getattr(self.checkpoint, name)
            _require(value >= 1, f"checkpoint.{name}", value, "at least 1")

    def with_model(self, *, vocab_size: int, context: int) -> TrainConfig:
        """The same run with those two sizes filled in."""
        return replace(self, model=replace(self.model, vocab_size=vocab_size, context=context))

    def _check_batch_ramp(self) -> None:
        start, micro = self.batch_start_rows, self.micro_batch_rows or 1
        _require(
            0 <= start <= self.batch_rows and start % micro == 0,
            "batch_start_rows",
            start,
            f"from 0 to batch_rows ({self.batch_rows}), a multiple of {micro}",
        )
        tokens = self.batch_ramp_tokens
        _require(
            tokens > 0 if start else tokens == 0,
            "batch_ramp_tokens",
            tokens,
            "above 0 with batch_start_rows, 0 without",
        )

    def _check_optimizer(self) -> None:
        optimizer = self.optimizer
        for name in ("lr", "eps", "clip"):
            value = getattr(optimizer, name)
            _require(value > 0, f"optimizer.{name}", value, "above 0")
        for name in ("beta1", "beta2"):
            value = getattr(optimizer, name)
            _require(0 <= value < 1, f"optimizer.{name}", value, "in [0, 1)")
        decay = optimizer.weight_decay
        _require(decay >= 0, "optimizer.weight_decay", decay, "0 or more")

    def _check_schedule(self) -> None:
        schedule = self.schedule
        for name in ("warmup_steps", "constant_tokens", "cosine_tokens", "tail_tokens"):
            value = getattr(schedule, name)
            _require(value >= 0, f"schedule.{name}", value, "0 or more")
        low, peak = schedule.min_lr, self.optimizer.lr
        in_reach = schedule.cosine_tokens == 0 or 0 <= low <= peak
        _require(in_reach, "schedule.min_lr", low, f"between 0 and optimizer.lr ({peak})")
        _require(schedule.final_lr >= 0, "schedule.final_lr", schedule.final_lr, "0 or more")

    def _check_losses(self) -> None:
        for name in ("gamma", "gamma_off_after_tokens", "alpha"):
            value = getattr(self.balance, name)
            _require(value >= 0, f"balance.{name}", value, "0 or more")
        if self.model.mtp_depth:
            # A weight of 0 would train a module that the loss never sees, without a sign of it.
            for name in ("loss_weight", "late_loss_weight"):
                value = getattr(self.mtp, name)
                _require(value > 0, f"mtp.{name}", value, "above 0 while model.mtp_depth is 1")


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise BadConfig(
            f"{name} must be {expected}, not {value}",
            where=name,
            effect="nothing was started",
            fix=f"change {name} in the config file or with --set {name}=…",
        )
