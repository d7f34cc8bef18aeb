"""Continuing a prompt: speculation changes no token, and drawing is a function of the position."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.generation.generate import Generation, generate
from dsv3data.generation.load import load_trained
from dsv3data.generation.sampling import SamplingConfig, draw, gumbel_noise
from dsv3data.generation.score import score
from dsv3data.model.transformer import Transformer
from tiny_models import random_model, small_config
from tiny_training import train_tiny


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model(small_config(mtp_depth=1))


def made(
    model: Transformer,
    prompt: list[int],
    *,
    speculative: bool,
    stop_id: int = -1,
    n_ids: int = 128,
    max_tokens: int = 17,
    **options: Any,
) -> Generation:
    return generate(
        model,
        prompt,
        max_tokens=max_tokens,
        stop_id=stop_id,
        n_ids=n_ids,
        sampling=SamplingConfig(**options),
        speculative=speculative,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.5, 3.0])
def test_speculation_changes_no_token(model: Transformer, temperature: float) -> None:
    guessed = accepted = 0
    for number in (0, 3, 7, 11):
        prompt = torch.arange(1, 2 + number).mul(7).remainder(128).tolist()
        plain = made(model, prompt, speculative=False, temperature=temperature, seed=number)
        fast = made(model, prompt, speculative=True, temperature=temperature, seed=number)
        assert fast.ids == plain.ids
        assert len(fast.ids) == 17
        guessed, accepted = guessed + fast.guessed, accepted + fast.accepted
    assert plain.guessed == plain.acceptance == 0
    assert guessed > accepted
    # Near-uniform distributions share most of their mass, and so most draws with the same noise.
    assert accepted > (guessed / 2 if temperature == 3.0 else 0)


def test_it_stops_behind_the_stop_token(model: Transformer) -> None:
    free = made(model, [3], speculative=False, temperature=2.0, max_tokens=9).ids
    stops = [place for place in range(1, 9) if free[place] not in free[:place]]
    assert len(stops) > 4
    for place in stops:
        # With guesses a stop may be read as a guess or behind one, hence every place.
        options = {"temperature": 2.0, "stop_id": free[place], "max_tokens": 9}
        assert made(model, [3], speculative=True, **options).ids == free[: place + 1]
    plain = made(model, [3], speculative=False, **options)
    assert plain.ids == free[: stops[-1] + 1]


def test_tokens_are_handed_on_as_they_come(model: Transformer) -> None:
    seen: list[int] = []
    result = generate(
        model,
        [1, 2],
        max_tokens=5,
        stop_id=-1,
        n_ids=128,
        sampling=SamplingConfig(),
        speculative=True,
        on_token=seen.append,
    )
    assert seen == result.ids


def test_rows_beyond_the_ids_are_never_drawn(model: Transformer) -> None:
    free, bound = (
        made(model, [3], speculative=True, temperature=5.0, n_ids=n_ids).ids for n_ids in (128, 9)
    )
    assert max(free) >= 9
    assert max(bound) < 9


def test_a_model_without_the_module_reads_token_by_token() -> None:
    result = made(random_model(small_config()), [1], speculative=True)
    assert (len(result.ids), result.guessed) == (17, 0)


@pytest.mark.parametrize(("prompt", "max_tokens"), [([], 5), ([1] * 40, 9)])
def test_what_does_not_fit_the_context(
    model: Transformer, prompt: list[int], max_tokens: int
) -> None:
    with pytest.raises(BadInput, match="new tokens do not fit"):
        generate(
            model, prompt, max_tokens=max_tokens, stop_id=-1, n_ids=128, sampling=SamplingConfig()
        )


# Scoring


def test_an_answer_is_scored_as_the_whole_row_would(model: Transformer) -> None:
    prompt, answer = [5, 9, 2, 11], [7, 3, 8]
    found = score(model, prompt, answer, n_ids=100)
    with torch.no_grad():
        hidden = model(torch.tensor([prompt + answer])).hidden_BTD[0, 3:-1]
        logits = model.logits(hidden)[:, :100]
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none")
    assert found.nats == pytest.approx(nats.tolist(), rel=1e-4)
    assert not found.found
    own = made(model, prompt, speculative=False).ids[:3]
    assert score(model, prompt, own, n_ids=128).found
    with pytest.raises(BadInput, match="new tokens do not fit"):
        score(model, [1] * 40, [1] * 9, n_ids=128)


# Drawing


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    config = SamplingConfig(temperature=2.0)
    n = 4000
    counts = Counter(draw(logits, position, config) for position in range(n))
    for token, probability in enumerate((logits / 2).softmax(-1).tolist()):
        spread = (probability * (1 - probability) / n) ** 0.5
        assert counts[token] / n == pytest.approx(probability, abs=5 * spread)


def test_top_p_keeps_the_likeliest_tokens_that_reach_it() -> None:
    logits = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))
    kept = {
        top_p: {
            draw(logits, position, SamplingConfig(temperature=1.0, top_p=top_p))
            for position in range(300)
        }
        for top_p in (0.01, 0.5, 0.51, 0.76, 1.0)
    }
    assert kept == {0.01: {1}, 0.5: {1}, 0.51: {1, 3}, 0.76: {1, 2, 3}, 1.0: {0, 1, 2, 3}}


def test_noise_is_keyed_by_seed_and_position() -> None:
    noise = gumbel_noise(50, 3, 1)
    assert torch.equal(noise, gumbel_noise(50, 3, 1))
    assert not torch.equal(noise, gumbel_noise(50, 4, 1))
    assert not torch.equal(noise, gumbel_noise(50, 3, 2))


@pytest.mark.parametrize(("name", "value"), [("temperature", -1.0), ("top_p", 0.0), ("top_p", 1.5)])
def test_bad_values_are_named(name: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"{name} must be"):
        SamplingConfig(**{name: value})


# Loading


def test_the_newest_checkpoint_is_read(tmp_path: Path) -> None:
    run = train_tiny(tmp_path)
    trained = load_trained(tmp_path)
    assert (trained.step, trained.tokens) == (run.steps, run.tokens)
    assert trained.checkpoint.name == f"step-{run.steps:08d}"
    result = generate(
        trained.model,
        [1, 2],
        max_tokens=8,
        stop_id=-1,
        n_ids=128,
        sampling=SamplingConfig(),
        speculative=True,
    )
    assert len(result.ids) == 8


def test_half_the_memory_gives_nearly_the_same(tmp_path: Path) -> None:
    train_tiny(tmp_path)
    whole, half = load_trained(tmp_path).model, load_trained(tmp_path, dtype="bf16").model
    sizes = [sum(p.nbytes for p in model.parameters()) for model in (whole, half)]
    assert sizes[1] < 0.55 * sizes[0]
    kinds = {name.split(".")[-2]: p.dtype for name, p in half.named_parameters()}
    assert kinds["ffn_norm"] == kinds["router"] == torch.float32
    assert kinds["embedding"] == kinds["head"] == kinds["q_up"] == kinds["routed"] == torch.bfloat16
    nats = [score(model, [1, 2, 3], [4, 5, 6], n_ids=128).nats for model in (whole, half)]
    assert nats[0] != nats[1]
    assert nats[0] == pytest.approx(nats[1], rel=0.02)
    assert len(made(half, [3], speculative=True, max_tokens=5).ids) == 5


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no checkpoint of a training run"):
        load_trained(tmp_path)
