"""The losses against their definitions, one position at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dsv3data.loader.documents import document_numbers
from dsv3data.training.cross_entropy import (
    CHUNK,
    head_cross_entropy,
    head_cross_entropy_reference,
)
from dsv3data.training.loss import TargetCounts, compute_losses, token_losses
from tiny_models import random_model, small_config

LENGTHS = torch.tensor([12, 7, 2, 1])
IDS = torch.randint(3, 128, (4, 12), generator=torch.Generator().manual_seed(0))
VALID = torch.arange(12) < LENGTHS[:, None]
COUNTS = TargetCounts.of(LENGTHS[:, None].numpy())


@pytest.mark.parametrize("n", [0, 1, CHUNK, 2 * CHUNK + 3])
def test_chunked_head_equals_all_logits_at_once(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    targets = torch.randint(0, 40, (n,), generator=generator)
    results = []
    for run in (head_cross_entropy, head_cross_entropy_reference):
        generator.manual_seed(1)
        hidden = torch.randn(n, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        head = torch.randn(40, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        loss, nll = run(hidden, head, targets)
        (loss * 0.3).backward()
        assert not nll.requires_grad
        results.append((loss, nll, hidden.grad, head.grad))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


def test_chunked_head_without_gradient_only_counts() -> None:
    hidden, head, targets = torch.randn(5, 8), torch.randn(40, 8), torch.arange(5)
    with torch.no_grad():
        loss, _ = head_cross_entropy(hidden, head, targets)
    torch.testing.assert_close(loss, head_cross_entropy_reference(hidden, head, targets)[0])


def test_huge_logits_stay_finite_and_nan_is_passed_on() -> None:
    head, targets = torch.eye(4), torch.tensor([1])
    assert math.isfinite(head_cross_entropy(torch.tensor([[1e5, 0, 0, 0]]), head, targets)[0])
    assert math.isnan(head_cross_entropy(torch.tensor([[math.nan, 0, 0, 0]]), head, targets)[0])


def test_losses_whose_share_no_number_holds_are_exact() -> None:
    hidden = torch.tensor([[200.0, 0, 0], [85.0, 0, 0], [3.0, 0, 0], [90.0, 0, 0]])
    head, targets = torch.eye(3), torch.tensor([1, 2, 1, 0])
    _, fast = head_cross_entropy(hidden, head, targets)
    _, slow = head_cross_entropy_reference(hidden, head, targets)
    assert fast[0] == 200
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)


def test_losses_equal_their_definitions() -> None:
    model = random_model(small_config(mtp_depth=1))
    output = model(IDS, VALID)
    losses = compute_losses(model, output, IDS, VALID, None, COUNTS, mtp_weight=0.3, alpha=0.01)
    main = nll_slowly(model.logits(output.hidden_BTD), ahead=1)
    mtp = nll_slowly(model.logits(output.mtp_hidden_BTD), ahead=2)
    assert len(main) == 11 + 6 + 1
    assert len(mtp) == 10 + 5
    balance = sum(float(routing.balance_loss.detach()) for routing in output.routings)
    assert float(losses.main) == pytest.approx(sum(main) / 18, rel=1e-5)
    assert float(losses.mtp) == pytest.approx(sum(mtp) / 15, rel=1e-5)
    by_row = [sum(main[:11]), sum(main[11:17]), main[17], 0.0]
    assert losses.main_nats_B.tolist() == pytest.approx(by_row, rel=1e-5)
    assert float(losses.balance) == pytest.approx(balance, rel=1e-6)
    total = losses.total.item()
    expected = sum(main) / 18 + 0.3 * sum(mtp) / 15 + 0.01 * balance
    assert total == pytest.approx(expected, rel=1e-5)


def nll_slowly(logits_BTV: torch.Tensor, ahead: int) -> list[float]:
    return [
        F.cross_entropy(logits_BTV[row, position], IDS[row, position + ahead]).item()
        for row, length in enumerate(LENGTHS.tolist())
        for position in range(length - ahead)
    ]


def test_every_term_reaches_its_weights() -> None:
    """MTP loss not wired, or lambda missing, leaves the projection without a gradient."""
    model = random_model(small_config(mtp_depth=1))
    output = model(IDS, VALID)
    compute_losses(
        model, output, IDS, VALID, None, COUNTS, mtp_weight=0.3, alpha=0.01
    ).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_padding_changes_no_loss() -> None:
    model = random_model(small_config(mtp_depth=1))
    other = torch.where(VALID, IDS, 99)
    totals = [
        compute_losses(
            model, model(ids, VALID), ids, VALID, None, COUNTS, mtp_weight=0.3, alpha=0.01
        ).total.item()
        for ids in (IDS, other)
    ]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_rows_without_any_target_divide_by_one_not_zero() -> None:
    counts = TargetCounts.of(np.array([[1], [1]], np.int32))
    assert (counts.rows, counts.main, counts.mtp) == (2, 1, 1)


def test_losses_of_single_tokens_add_up_to_those_of_their_rows() -> None:
    model = random_model(small_config())
    losses_BT = token_losses(model, IDS, VALID, None)
    assert torch.equal(losses_BT.isnan(), ~VALID | (torch.arange(12) == 0))
    output = model(IDS, VALID)
    rows = compute_losses(model, output, IDS, VALID, None, COUNTS, mtp_weight=0.0, alpha=0.0)
    torch.testing.assert_close(losses_BT.nansum(dim=1), rows.main_nats_B)


def test_documents_apart_teach_what_each_teaches_alone() -> None:
    """No target lies behind the border of a document, nor the MTP module's: a masked row has the
    losses and gradients of its documents in rows of their own."""
    pieces = [np.array(lengths, np.int32) for lengths in ([5, 4, 3], [6, 1], [2], [1])]
    numbers = torch.from_numpy(document_numbers(pieces, 12))
    alone_ids, alone_lengths = [], [length for row in pieces for length in row.tolist()]
    for row, lengths in enumerate(pieces):
        for start, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
            alone_ids.append(F.pad(IDS[row, start : start + length], (0, 12 - length)))
    alone_valid = torch.arange(12) < torch.tensor(alone_lengths)[:, None]
    together = TargetCounts.of(pieces)
    assert (together.main, together.mtp) == (4 + 3 + 2 + 5 + 1, 3 + 2 + 1 + 4)
    assert TargetCounts.of(np.array(alone_lengths)[:, None]).main == together.main
    found = []
    for ids, valid, documents in (
        (IDS, VALID, numbers),
        (torch.stack(alone_ids), alone_valid, None),
    ):
        model = random_model(small_config(mtp_depth=1))
        output = model(ids, valid, documents)
        losses = compute_losses(
            model, output, ids, valid, documents, together, mtp_weight=0.3, alpha=0.0
        )
        losses.total.backward()
        loads = [routing.load_E for routing in output.routings]
        found.append((losses, loads, [parameter.grad for parameter in model.parameters()]))
    (row, loads, gradients), (alone, loads_alone, gradients_alone) = found
    torch.testing.assert_close([row.main, row.mtp], [alone.main, alone.mtp])
    torch.testing.assert_close(row.main_nats_B.sum(), alone.main_nats_B.sum())
    assert all(map(torch.equal, loads, loads_alone))
    torch.testing.assert_close(gradients, gradients_alone, rtol=1e-4, atol=1e-6)


def test_losses_of_single_tokens_of_documents_apart_are_those_of_each_alone() -> None:
    model = random_model(small_config())
    documents = torch.tensor([0] * 5 + [1] * 7).expand(4, 12)
    everything = torch.ones(4, 12, dtype=torch.bool)
    apart = token_losses(model, IDS, everything, documents)
    for part in (slice(0, 5), slice(5, 12)):
        alone = token_losses(model, IDS[:, part], everything[:, part], None)
        torch.testing.assert_close(apart[:, part], alone, equal_nan=True)
