"""`dsv3data demo`: every stage in a row, each also a command that the summary shows."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.audit.verify import verify
from dsv3data.contracts.config import load_config
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import make_folder, set_aside, write_atomic
from dsv3data.packing.config import PackConfig
from dsv3data_pipelines.demo.page import demo_page
from dsv3data_pipelines.demo_documents import build_documents
from dsv3data_pipelines.pack import PackResult, pack
from dsv3data_pipelines.tokenize import TokenizeConfig, TokenizeResult, tokenize
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.train import TokenizerResult, train_tokenizer

_PRESET = "tiny"
# Small units, so that a small corpus keeps several cores busy.
_UNIT_BYTES = 2 << 20


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Sizes of the demo. `steps` 0 takes the preset's."""

    seed: int = 0
    vocab_size: int = 16_384
    context: int = 1024
    fim_rate: float = 0.1
    steps: int = 0


def run_demo(
    out: Path,
    *,
    config: DemoConfig,
    workers: int,
    sink: Sink,
    heading: Callable[[str], None],
    fresh: bool = False,
) -> dict[str, Any]:
    """Run or continue the demo in `out`; the summary (also in OUT/summary.json and demo.html).

    `heading` is told each step of the way, between the phases that `sink` hears of.
    """
    started = time.monotonic()
    if fresh and out.exists():
        sink.note(f"old output moved to {set_aside(out)}")
    make_folder(out)
    commands = _commands(out, config, workers)
    heading("[1/6] documents of this machine")
    sink.phase("collect documents")
    build_documents(out / "documents", seed=config.seed)
    heading(f"[2/6] {commands[0]}")
    tokenizer = train_tokenizer(
        [out / "documents"],
        out=out / "tokenizer",
        config=TokenizerTrainConfig(vocab_size=config.vocab_size, unit_bytes=_UNIT_BYTES),
        workers=workers,
        sink=sink,
    )
    heading(f"[3/6] {commands[1]}")
    tokens = tokenize(
        [out / "documents"],
        tokenizer=out / "tokenizer",
        out=out / "tokens",
        config=TokenizeConfig(unit_bytes=_UNIT_BYTES),
        workers=workers,
        sink=sink,
    )
    heading(f"[4/6] {commands[2]}")
    packed = pack(
        out / "tokens",
        out=out / "packed",
        config=PackConfig(context=config.context, fim_rate=config.fim_rate, seed=config.seed),
        workers=workers,
        sink=sink,
    )
    heading(f"[5/6] {commands[3]}")
    verify(out / "packed", sink=sink)
    heading(f"[6/6] {commands[5]}")
    train = _train(out, config, sink)
    summary = {
        **_data_summary(tokenizer, tokens, packed, config),
        "train": train,
        "seconds": round(time.monotonic() - started, 1),
        "commands": commands,
        "next": _next_commands(out),
        "page": str(out / "demo.html"),
    }
    write_atomic(out / "demo.html", demo_page(summary).encode("utf-8"))
    write_atomic(
        out / "summary.json", (json.dumps(summary, ensure_ascii=False, indent=2) + "\n").encode()
    )
    return summary


def _train(out: Path, config: DemoConfig, sink: Sink) -> dict[str, Any]:
    # torch is heavy and an extra: only this step needs it.
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.presets import preset_text
    from dsv3data.training.run import run_training

    preset = out / f"{_PRESET}.toml"
    write_atomic(preset, preset_text(_PRESET).encode("utf-8"))
    train_config = load_config(TrainConfig, preset, _train_overrides(config))
    result = run_training(train_config, data=out / "packed", out=out / "train", sink=sink)
    figures = {key: value for key, value in dataclasses.asdict(result).items() if key != "out"}
    return {**figures, **_curves(out / "train" / "metrics.jsonl")}


def _curves(metrics: Path) -> dict[str, list[float]]:
    """Step, main loss, MTP loss and bits per byte of every step with a finite loss."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record["main_loss"] is not None]
    return {
        "step": [record["step"] for record in records],
        "losses": [record["main_loss"] for record in records],
        "mtp_losses": [record["mtp_loss"] for record in records],
        "bits_per_byte_curve": [record["bits_per_byte"] for record in records],
    }


def _train_overrides(config: DemoConfig) -> list[str]:
    overrides = [f"seed={config.seed}"] if config.seed else []
    return [*overrides, f"steps={config.steps}"] if config.steps else overrides


def _data_summary(
    tokenizer: TokenizerResult, tokens: TokenizeResult, packed: PackResult, config: DemoConfig
) -> dict[str, Any]:
    counts = packed.counts
    domains = {
        name: {
            **figures,
            "rows": counts["domains"][name]["rows"],
            "padding_share": _padding_share(counts["domains"][name], config.context),
        }
        for name, figures in tokens.counts["domains"].items()
    }
    return {
        "domains": domains,
        "documents": counts["documents"],
        "bytes": counts["bytes"],
        "tokens": counts["text_tokens"],
        "rows": counts["rows"],
        "context": config.context,
        "padding_share": _padding_share(counts, config.context),
        "fim": {
            "documents": counts["fim"]["documents_fim"] / counts["documents"],
            "tokens": counts["fim"]["source_tokens_fim"] / counts["text_tokens"],
        },
        "vocab_size": config.vocab_size,
        "tokenizer_sha256": tokenizer.sha256,
        "tokens_root": tokens.root,
        "packed_root": packed.root,
    }


def _padding_share(figures: Mapping[str, Any], context: int) -> float:
    return float(figures["padding"] / (figures["rows"] * context))


def _commands(out: Path, config: DemoConfig, workers: int) -> list[str]:
    """The stages as command lines that do exactly the same."""
    documents, tokenizer, tokens, packed, train = (
        shlex.quote(str(out / name))
        for name in ("documents", "tokenizer", "tokens", "packed", "train")
    )
    sets = "".join(f" --set {override}" for override in _train_overrides(config))
    preset = shlex.quote(str(out / f"{_PRESET}.toml"))
    return [
        f"dsv3data tokenizer train {documents} --vocab-size {config.vocab_size} "
        f"--set unit_bytes={_UNIT_BYTES} --workers {workers} --out {tokenizer}",
        f"dsv3data tokenize {documents} --tokenizer {tokenizer} --unit-bytes {_UNIT_BYTES} "
        f"--workers {workers} --out {tokens}",
        f"dsv3data pack {tokens} --context {config.context} --fim-rate {config.fim_rate} "
        f"--seed {config.seed} --workers {workers} --out {packed}",
        f"dsv3data verify {packed}",
        f"dsv3data inspect {packed} --row 0",
        f"dsv3data train --config {preset} --data {packed} --out {train}{sets}",
    ]


def _next_commands(out: Path) -> list[str]:
    tokenizer, packed = (shlex.quote(str(out / name)) for name in ("tokenizer", "packed"))
    preset = shlex.quote(str(out / f"{_PRESET}.toml"))
    longer = shlex.quote(str(out / "train-longer"))
    return [
        f"dsv3data inspect {packed} --row 7",
        f"dsv3data train --config {preset} --data {packed} --out {longer} --set steps=1000",
        f"dsv3data tokenize YOUR.jsonl --tokenizer {tokenizer} --out runs/mine/tokens",
    ]
