"""`dsv3data generate`: let a trained model continue a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, as_overrides, output_options
from dsv3data_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from dsv3data.encoding.vocabulary import Vocabulary
    from dsv3data.generation.generate import Generation


@click.command(short_help="Let a trained model continue a text.")
@click.argument("run", type=PATH)
@click.option("--tokenizer", type=PATH, required=True, help="The tokenizer of its training text.")
@click.option("--prompt", required=True, help="Text to continue.")
@click.option("--suffix", help="Text behind the gap: the model fills in the middle.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="New tokens at most.",
)
@click.option("--temperature", type=float, help="0 takes the likeliest token.  [default: 0.0]")
@click.option("--top-p", type=float, help="Draw from the likeliest tokens.  [default: 1.0]")
@click.option("--seed", type=int, help="Of the draws.  [default: 0]")
@click.option("--average", is_flag=True, help="Take the moving average of the weights.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of weights and activations; bf16 takes half the memory.",
)
@click.option(
    "--compare", is_flag=True, help="Generate with and without the MTP module, timed side by side."
)
@output_options
def generate(
    run: Path,
    tokenizer: Path,
    prompt: str,
    suffix: str | None,
    max_tokens: int,
    average: bool,
    dtype: Literal["fp32", "bf16"],
    compare: bool,
    output: Output,
    **given: Any,
) -> None:
    """Continue --prompt with the newest checkpoint of the training run in RUN, or with a model in
    the names of the released weights (`export --format hf-model`).

    The MTP module guesses one token ahead, which saves readings and changes no token. Text of
    control tokens in the prompt stays text.
    """
    from dsv3data_cli.commands.train import require_torch

    require_torch()
    import numpy as np

    from dsv3data.contracts.config import load_config
    from dsv3data.encoding.vocabulary import load_vocabulary
    from dsv3data.generation.load import load_trained
    from dsv3data.generation.sampling import SamplingConfig

    sampling = load_config(SamplingConfig, None, as_overrides(given))
    vocabulary = load_vocabulary(tokenizer)
    trained = load_trained(run, average=average, dtype=dtype)
    _check_vocabulary(vocabulary, trained.model.config.vocab_size, tokenizer)
    ids = _prompt_ids(vocabulary, prompt, suffix)
    modes = ["guessing", "plain"] if compare else ["guessing"]
    results = {
        mode: _timed(trained.model, ids, max_tokens, vocabulary, sampling, mode == "guessing")
        for mode in modes
    }
    made, seconds = results["guessing"]
    eos = vocabulary.control.eos
    text = vocabulary.decode(np.array([token for token in made.ids if token != eos], np.int32))
    tree = {
        "text": text.decode("utf-8", "replace"),
        "ids": made.ids,
        "ended": made.ids[-1:] == [eos],
        "guessed": made.guessed,
        "accepted": made.accepted,
        "tokens_per_s": round(len(made.ids) / seconds, 2),
        "step": trained.step,
        "checkpoint": str(trained.checkpoint),
    }
    if compare:
        plain, plain_seconds = results["plain"]
        tree["plain_tokens_per_s"] = round(len(plain.ids) / plain_seconds, 2)
        tree["same_tokens"] = plain.ids == made.ids
    output.result(tree, lambda console: _render(console, prompt, suffix, tree))


def _timed(
    model: Any,
    ids: list[int],
    max_tokens: int,
    vocabulary: Vocabulary,
    sampling: Any,
    speculative: bool,
) -> tuple[Generation, float]:
    from dsv3data.contracts.meter import Meter
    from dsv3data.generation.generate import generate as run_model

    meter = Meter()
    made = run_model(
        model,
        ids,
        max_tokens=max_tokens,
        stop_id=vocabulary.control.eos,
        n_ids=vocabulary.vocab_size,
        sampling=sampling,
        speculative=speculative,
    )
    return made, meter.seconds


def _prompt_ids(vocabulary: Vocabulary, prompt: str, suffix: str | None) -> list[int]:
    """Ids of the prompt; with a suffix in the order that packing gives FIM samples (PSM)."""
    from dsv3data.encoding.huggingface import HuggingFaceEncoder

    encoder, control = HuggingFaceEncoder(vocabulary), vocabulary.control
    before, behind = (encoder.encode([text])[0].tolist() for text in (prompt, suffix or ""))
    if suffix is None:
        return [*before]
    return [control.fim_begin, *before, control.fim_hole, *behind, control.fim_end]


def _check_vocabulary(vocabulary: Vocabulary, rows: int, tokenizer: Path) -> None:
    if vocabulary.vocab_size > rows:
        raise BadInput(
            f"the tokenizer has {vocabulary.vocab_size:,} ids, the model's embedding {rows:,} rows",
            where=str(tokenizer),
            effect="nothing was generated",
            fix="give the tokenizer of the packed set that the model was trained on",
        )


def _render(console: Console, prompt: str, suffix: str | None, tree: dict[str, Any]) -> None:
    text = printable(tree["text"])
    console.print(printable(prompt), end="", markup=False, soft_wrap=True)
    console.print(text, style="bold", end="", markup=False, soft_wrap=True)
    console.print(printable(suffix or ""), markup=False, soft_wrap=True)
    console.print()
    share = tree["accepted"] / tree["guessed"] if tree["guessed"] else 0.0
    console.print(
        f"{len(tree['ids']):,} tokens, {tree['tokens_per_s']:,} a second; "
        f"{tree['accepted']:,} of {tree['guessed']:,} guesses right ({share:.1%})"
    )
    if "same_tokens" in tree:
        same = "the same tokens" if tree["same_tokens"] else "OTHER tokens"
        console.print(f"without guessing {tree['plain_tokens_per_s']:,} a second, {same}")
    console.print(f"step {tree['step']:,}: {tree['checkpoint']}", soft_wrap=True, markup=False)
