"""Parameter and FLOP counts meet the published figures and the built models."""

from __future__ import annotations

import pytest
import torch

from dsv3data.model.accounting import count_parameters, flop_per_token, training_bytes
from dsv3data.model.config import ModelConfig
from dsv3data.model.transformer import Transformer
from tiny_models import small_config


def count_built(config: ModelConfig) -> tuple[int, int]:
    """(main, MTP) numbers in the state dict of a model built without memory."""
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    mtp = sum(tensor.numel() for name, tensor in state.items() if name.startswith("mtp."))
    return sum(tensor.numel() for tensor in state.values()) - mtp, mtp


def test_deepseek_v3_has_the_published_number_of_parameters() -> None:
    config = ModelConfig()
    main, mtp = count_built(config)
    assert main == 671_026_419_200
    size = count_parameters(config)
    assert (size.main, size.mtp) == (main, mtp)
    assert size.active == pytest.approx(37.55e9, rel=1e-4)
    assert size.total == main + mtp


@pytest.mark.parametrize("mtp_depth", [0, 1])
def test_counting_from_sizes_equals_counting_a_model(mtp_depth: int) -> None:
    config = small_config(mtp_depth=mtp_depth)
    size = count_parameters(config)
    assert (size.main, size.mtp) == count_built(config)
    assert training_bytes(config) == 16 * size.total


def test_flop_per_token_meet_the_published_figures() -> None:
    config = ModelConfig()
    giga = 1e9
    assert flop_per_token(config, context=4096) / giga == pytest.approx(250.4, abs=0.1)
    full = flop_per_token(config, context=4096, causal=False)
    assert full / giga == pytest.approx(281.2, abs=0.1)
    assert flop_per_token(config, context=4096, mtp=True) / giga == pytest.approx(260.6, abs=0.1)
