"""One optimizer step: micro-batches, the finite check, the guards."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dsv3data.contracts.errors import Dsv3DataError
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training import step as step_module
from dsv3data.training.acceptance import mtp_acceptance
from dsv3data.training.config import BalanceConfig
from dsv3data.training.guards import check_first_steps
from dsv3data.training.optimizer import AdamW
from dsv3data.training.schedule import knobs
from dsv3data.training.spikes import NO_LIMITS, StepLimits
from dsv3data.training.step import StepResult, target_bytes, train_step
from fake_training_data import FakeBatch, FakeDataset, FakeStream
from tiny_training import CONFIG

FILLED = CONFIG.with_model(vocab_size=128, context=16)
KNOBS = knobs(FILLED, step=5, tokens=0)


def fresh_parts() -> tuple[Transformer, AdamW, FakeBatch]:
    model = Transformer(FILLED.model)
    init_weights(model, seed=0)
    batch = FakeStream(FakeDataset(), seed=0).next(8)
    assert 11 in batch.n_tokens  # a row with padding
    return model, AdamW(model.named_parameters(), FILLED.optimizer), batch


def snapshot(model: Transformer, optimizer: AdamW) -> dict[str, torch.Tensor]:
    state = {**model.state_dict(), **optimizer.state()}
    return {name: tensor.clone() for name, tensor in state.items()}


def test_micro_batches_give_the_gradients_of_the_whole_batch() -> None:
    results = {}
    for rows in (0, 4, 1):
        model, optimizer, batch = fresh_parts()
        config = replace(FILLED, micro_batch_rows=rows)
        result = train_step(model, optimizer, batch, KNOBS, config, NO_LIMITS)
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        results[rows] = (result, gradients)
    whole, gradients = results[0]
    for rows in (4, 1):
        result, others = results[rows]
        assert result.loss == pytest.approx(whole.loss, rel=1e-6)
        assert result.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
        assert all(map(torch.equal, result.loads, whole.loads))
        for gradient, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-7)


def test_documents_are_apart_only_if_asked_for() -> None:
    """The pieces of the batch reach attention: an id of the first changes nothing in the second."""
    states = {
        (document_mask, first): states_of_second_pieces(document_mask, first)
        for document_mask in (False, True)
        for first in (3, 4)
    }
    assert torch.equal(states[True, 3], states[True, 4])
    assert not torch.allclose(states[False, 3], states[False, 4])
    assert not torch.allclose(states[False, 3], states[True, 3])


def states_of_second_pieces(document_mask: bool, first_id: int) -> torch.Tensor:
    model, optimizer, batch = fresh_parts()
    batch.input_ids[:, 0] = first_id
    outputs = []
    model.register_forward_hook(lambda _, __, output: outputs.append(output))
    config = replace(FILLED, document_mask=document_mask)
    train_step(model, optimizer, batch, KNOBS, config, NO_LIMITS)
    return outputs[0].hidden_BTD.detach()[:, 6:]


def test_recompute_changes_no_bit_of_a_step() -> None:
    after = []
    for names in ((), ("rms_norm", "mla_up", "swiglu")):
        model, optimizer, batch = fresh_parts()
        model.set_recompute(names)
        result = train_step(
            model, optimizer, batch, KNOBS, replace(FILLED, micro_batch_rows=4), NO_LIMITS
        )
        check_first_steps(model, batch, result, KNOBS, FILLED)  # loads are counted once
        after.append(snapshot(model, optimizer))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_a_step_lowers_the_loss_and_moves_the_biases() -> None:
    model, optimizer, batch = fresh_parts()
    results = [train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS) for _ in range(8)]
    assert results[-1].loss < results[0].loss - 0.1
    assert all(result.bias_shift == pytest.approx(KNOBS.gamma) for result in results)


@pytest.mark.parametrize("where", ["loss", "gradient", "router", "fp8 scale"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_leaves_everything_bitwise_alone(
    where: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer, batch = fresh_parts()
    train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)  # moments exist
    before = snapshot(model, optimizer)
    spoil(where, value, model, monkeypatch)
    result = train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)
    assert result.skipped == "not finite"
    assert not (math.isfinite(result.loss) and math.isfinite(result.grad_norm))
    after = snapshot(model, optimizer)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def spoil(where: str, value: float, model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "router":
        router = model.routers()[0]
        real_scores = router.scores
        monkeypatch.setattr(router, "scores", lambda x: real_scores(x) * value)
        return
    if where == "fp8 scale":  # of the tile that holds the value
        model.set_precision("fp8")
        mask = torch.ones(FILLED.model.d_model).index_fill(0, torch.tensor([3]), value)
        model.embedding.register_forward_hook(lambda _, __, output: output * mask)
        return
    real = step_module.compute_losses

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        losses = real(*args, **kwargs)
        if where == "loss":
            return replace(losses, total=losses.total * value)
        losses.total.register_hook(lambda gradient: gradient * value)
        return losses

    monkeypatch.setattr(step_module, "compute_losses", spoiled)


def checked(result: StepResult, model: Transformer, batch: FakeBatch, **changes: Any) -> None:
    check_first_steps(model, batch, result, KNOBS, replace(FILLED, **changes))


@pytest.mark.parametrize("limits", [StepLimits(loss=4.0), StepLimits(grad_norm=1e-3)], ids=str)
def test_a_spike_leaves_everything_bitwise_alone(limits: StepLimits) -> None:
    model, optimizer, batch = fresh_parts()
    train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)
    before = snapshot(model, optimizer)
    result = train_step(model, optimizer, batch, KNOBS, FILLED, limits)
    assert result.skipped == "spike"
    after = snapshot(model, optimizer)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_target_bytes_are_those_of_predicted_tokens() -> None:
    batch = FakeStream(FakeDataset(), seed=0).next(8)
    bytes_per_id = np.arange(128)
    for apart in (False, True):
        slowly = 0
        for ids, lengths in zip(batch.input_ids, batch.piece_lengths, strict=True):
            firsts = {0, int(lengths[0])} if apart else {0}
            slowly += sum(int(ids[at]) for at in range(lengths.sum()) if at not in firsts)
        assert target_bytes(batch, replace(FILLED, document_mask=apart), bytes_per_id) == slowly


def test_acceptance_is_counted_one_position_at_a_time() -> None:
    model, _, batch = fresh_parts()
    for apart in (False, True):
        config = replace(FILLED, document_mask=apart)
        ids, (first, second) = torch.from_numpy(batch.input_ids[:1]).long(), (6, 10)
        documents = torch.tensor([[0] * first + [1] * second]) if apart else None
        output = model(ids, None, documents)
        main, mtp = (model.logits(x)[0] for x in (output.hidden_BTD, output.mtp_hidden_BTD))
        places = [i for i in range(14) if not apart or i + 2 < first or i >= first]
        agreed = [int(main[i + 1].argmax()) == int(mtp[i].argmax()) for i in places]
        assert mtp_acceptance(model, batch, config) == sum(agreed) / len(agreed)
    alone = Transformer(replace(FILLED.model, mtp_depth=0))
    init_weights(alone, seed=0)
    assert mtp_acceptance(alone, batch, FILLED) is None


@pytest.mark.parametrize("apart", [False, True])
def test_a_healthy_step_passes_the_guards(apart: bool) -> None:
    model, optimizer, batch = fresh_parts()
    config = replace(FILLED, document_mask=apart)
    result = train_step(model, optimizer, batch, KNOBS, config, NO_LIMITS)
    checked(result, model, batch, document_mask=apart)
    predicted = batch.n_tokens - (2 if apart else 1)  # every row has two pieces
    assert result.row_targets_B.tolist() == predicted.tolist()


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"balance_loss": 0.0}, "the sequence-wise balance loss is exactly 0"),
        ({"mtp_loss": 0.0}, "the multi-token prediction loss is exactly 0"),
    ],
)
def test_a_dead_term_is_found(spoiled: dict[str, float], message: str) -> None:
    model, optimizer, batch = fresh_parts()
    result = train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)
    with pytest.raises(Dsv3DataError) as caught:
        checked(replace(result, **spoiled), model, batch)
    assert caught.value.what == message
    assert (
        caught.value.fix == "set the value to 0 if this is what you want, else report it as a bug"
    )


def test_a_balance_loss_of_0_is_fine_when_alpha_is_0() -> None:
    model, optimizer, batch = fresh_parts()
    off = BalanceConfig(gamma=0.01, alpha=0.0)
    config = replace(FILLED, balance=off)
    result = train_step(model, optimizer, batch, KNOBS, config, NO_LIMITS)
    checked(replace(result, balance_loss=0.0), model, batch, balance=off)


@pytest.mark.parametrize("missing", ["lambda", "alpha"])
def test_a_term_left_out_of_the_loss_is_found(missing: str) -> None:
    model, optimizer, batch = fresh_parts()
    result = train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)
    alone = 0.3 * result.mtp_loss if missing == "lambda" else 1e-4 * result.balance_loss
    with pytest.raises(Dsv3DataError, match=r"the loss is .*, the sum of its weighted terms "):
        checked(replace(result, loss=result.loss - alone), model, batch)


def test_biases_that_never_move_are_found() -> None:
    model, optimizer, batch = fresh_parts()
    result = train_step(model, optimizer, batch, replace(KNOBS, gamma=0.0), FILLED, NO_LIMITS)
    with pytest.raises(Dsv3DataError, match="no router bias moved although the load is uneven"):
        checked(result, model, batch)


def test_a_load_counted_twice_is_found() -> None:
    model, optimizer, batch = fresh_parts()
    result = train_step(model, optimizer, batch, KNOBS, FILLED, NO_LIMITS)
    doubled = tuple(load_E * 2 for load_E in result.loads)
    tokens = int(batch.n_tokens.sum())
    with pytest.raises(Dsv3DataError) as caught:
        checked(replace(result, loads=doubled), model, batch)
    assert caught.value.what == (
        f"expert loads of MoE layer 0 sum to {tokens * 4} instead of {tokens * 2}"
    )
