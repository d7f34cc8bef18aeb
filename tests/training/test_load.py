"""Expert load by domain and nodes per token, against a count of one visit after the other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from dsv3data.model.router import Routing, expert_load
from dsv3data.training.load import LayerLoad, load_reference, nodes_per_token, relative
from tiny_models import small_config
from tiny_training import train_tiny

CONFIG = small_config()


@pytest.mark.parametrize("behind", [0, 1])  # 1: the MTP block sees one position fewer
def test_equals_the_slow_twin_over_micro_batches(behind: int) -> None:
    chance = torch.Generator().manual_seed(behind)
    load = LayerLoad(CONFIG, 3, torch.device("cpu"))
    expected, visits, tokens = torch.zeros(3, 16, dtype=torch.int64), 0, 0
    for _ in range(5):
        lengths = torch.randint(1, 9, (4, 1), generator=chance)
        valid_BT = torch.arange(8) < lengths
        domains_B = torch.randint(0, 3, (4,), generator=chance)
        valid_BS = valid_BT[:, behind:]
        scores = torch.rand(4 * (8 - behind), 16, generator=chance)
        experts_TK = scores.topk(3, dim=-1).indices
        routing = Routing(
            valid_BS=valid_BS,
            experts_TK=experts_TK,
            weights_TK=torch.ones(len(experts_TK), 3),
            load_E=expert_load(experts_TK, valid_BS.flatten(), 16),
            balance_loss=torch.zeros(()),
        )
        load.add(routing, domains_B)
        counts, more = load_reference(3, CONFIG, experts_TK.view(4, -1, 3), valid_BS, domains_B)
        expected += torch.tensor(counts)
        visits, tokens = visits + more, tokens + int(valid_BS.sum())
    assert torch.equal(load.by_domain_GE, expected)
    assert torch.equal(load.by_layer_E, expected.sum(dim=0))
    assert nodes_per_token([load]) == visits / tokens
    assert 1 <= visits / tokens <= 3
    assert math.isnan(nodes_per_token([]))


def test_relative_load() -> None:
    assert relative(torch.tensor([6, 2, 4, 0])) == [2.0, 0.667, 1.333, 0.0]
    assert relative(torch.zeros(2, dtype=torch.int64)) == [0.0, 0.0]


def test_a_run_writes_them_down(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=5)  # a line every 4 steps, and one at the end
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert ["load_by_domain" in line for line in lines] == [False, False, False, True, True]
    load = lines[3]["load_by_domain"]
    assert set(load) == {"even", "odd"}
    assert [len(layer) for layer in load["even"]] == [8, 8]
    assert all(sum(layer) == pytest.approx(8, abs=0.01) for layer in load["odd"])
    assert all(1 <= line["nodes_per_token"] <= 2 for line in lines)  # two groups at most
