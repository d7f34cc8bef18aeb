"""Rotary positions, YaRN and latent attention against slow twins."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from dsv3data.contracts.errors import BadConfig
from dsv3data.model.attention import attend, mask_for, places_in_documents
from dsv3data.model.config import AttentionBackend, ModelConfig, YarnConfig
from dsv3data.model.mla import MLA
from dsv3data.model.norm import RMSNorm
from dsv3data.model.rope import rope_frequencies, rope_tables, rotate, softmax_scale
from tiny_models import random_model, small_config

CPU = torch.device("cpu")
STRETCHED = ModelConfig(context=131_072, yarn=YarnConfig(factor=40.0))


def test_neighbouring_numbers_turn_together() -> None:
    config = small_config()
    x = torch.randn(1, 7, 1, config.d_qk_rope)
    turned = rotate(x, rope_tables(config, 7, CPU))
    for position in range(7):
        for pair in range(config.d_qk_rope // 2):
            angle = position * config.rope_theta ** (-2 * pair / config.d_qk_rope)
            even, odd = x[0, position, 0, 2 * pair : 2 * pair + 2].tolist()
            expected = complex(even, odd) * cmath.exp(1j * angle)
            got = complex(*turned[0, position, 0, 2 * pair : 2 * pair + 2].tolist())
            assert abs(got - expected) < 1e-5


def test_yarn_keeps_fast_pairs_and_divides_slow_ones() -> None:
    """V3 at 128K: 40 times slower below one rotation in 4096 tokens, unchanged above 32."""
    plain, stretched = rope_frequencies(ModelConfig()), rope_frequencies(STRETCHED)
    rotations = 4096 * plain / (2 * math.pi)
    ratio = plain / stretched
    torch.testing.assert_close(ratio[rotations > 36], torch.ones(int((rotations > 36).sum())))
    slow = ratio[rotations < 0.9]
    torch.testing.assert_close(slow, torch.full_like(slow, 40.0))
    assert (ratio.diff() >= -1e-4).all()
    # Values of DeepSeek's inference code for these sizes: blending from pair 10 to pair 23.
    blend = 1 - (torch.arange(32) - 10).div(13).clamp(0, 1)
    torch.testing.assert_close(stretched, plain / 40 * (1 - blend) + plain * blend)


def test_softmax_factor_belongs_to_yarn_alone() -> None:
    assert softmax_scale(ModelConfig()) == pytest.approx(192**-0.5)
    expected = 192**-0.5 * (0.1 * math.log(40) + 1) ** 2
    assert softmax_scale(STRETCHED) == pytest.approx(expected)


def test_attention_equals_one_position_and_one_head_at_a_time() -> None:
    config = small_config()
    block = random_model(config).blocks[0]
    attention: MLA = block.attention
    x_BTD = torch.randn(2, 6, config.d_model)
    rope = rope_tables(config, 6, CPU)
    torch.testing.assert_close(
        attention(x_BTD, rope), attend_slowly(attention, x_BTD, rope), rtol=1e-4, atol=1e-5
    )


def attend_slowly(
    attention: MLA, x_BTD: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    query = attention.queries(attention.q_down(x_BTD), rope)
    key, value = attention.keys_and_values(attention.kv_down(x_BTD), rope)
    rows, tokens, heads, _ = query.shape
    mixed = torch.zeros(rows, tokens, heads, attention.d_v)
    for row in range(rows):
        for now in range(tokens):
            for head in range(heads):
                seen = key[row, : now + 1, head] @ query[row, now, head]
                weights = torch.softmax(seen * attention.softmax_scale, dim=0)
                mixed[row, now, head] = weights @ value[row, : now + 1, head]
    return attention.out(mixed.flatten(2))


def test_the_future_reaches_no_position() -> None:
    model = random_model(small_config())
    ids = torch.arange(20)[None]
    changed = ids.clone()
    changed[0, 12:] += 50
    before, after = model(ids).hidden_BTD, model(changed).hidden_BTD
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-3


def test_rms_norm_is_its_formula() -> None:
    norm = RMSNorm(6, eps=1e-2)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 6) * 0.1
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-2).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)


# Back ends and documents

DOCUMENTS = torch.tensor([[0] * 7 + [1] + [2] * 12, [0] * 20])


def core(backend: AttentionBackend, documents: torch.Tensor | None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    query, key = (torch.randn(2, 20, 3, 12, generator=generator) for _ in range(2))
    value = torch.randn(2, 20, 3, 10, generator=generator)
    mask = mask_for(backend, documents, 20, CPU)
    return attend(query, key, value, mask, scale=0.4, backend=backend)


@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["causal", "documents"])
def test_back_ends_agree(documents: torch.Tensor | None) -> None:
    by_formula = core("math", documents)
    backends: tuple[AttentionBackend, ...] = ("sdpa", "flex")
    for backend in backends:
        torch.testing.assert_close(core(backend, documents), by_formula, rtol=1e-5, atol=1e-5)
    assert not torch.equal(core("math", DOCUMENTS), core("math", None))


def test_a_model_gives_the_same_by_formula() -> None:
    model = random_model(small_config(mtp_depth=1))
    ids = torch.arange(40).view(2, 20)
    gradients = []
    for backend in ("sdpa", "math"):
        model.set_attention(backend)
        model.zero_grad()
        output = model(ids, documents_BT=DOCUMENTS)
        (output.hidden_BTD.square().sum() + output.mtp_hidden_BTD.square().sum()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_flex_cannot_train_on_a_cpu() -> None:
    model = random_model(small_config())
    model.set_attention("flex")
    with pytest.raises(BadConfig, match="flex attention has no gradient on a CPU"):
        model(torch.arange(8)[None])


@pytest.mark.parametrize("yarn", [YarnConfig(), YarnConfig(factor=4.0, original_context=12)])
def test_a_document_in_a_row_reads_as_if_alone(yarn: YarnConfig) -> None:
    model = random_model(small_config(mtp_depth=1, yarn=yarn))
    ids = torch.randint(3, 128, (2, 20), generator=torch.Generator().manual_seed(8))
    packed = model(ids, documents_BT=DOCUMENTS)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for row, start, stop in [(0, 0, 7), (0, 7, 8), (0, 8, 20), (1, 0, 20)]:
        alone = model(ids[row : row + 1, start:stop])
        hidden = packed.hidden_BTD[row, start:stop]
        torch.testing.assert_close(model.logits(hidden), model.logits(alone.hidden_BTD[0]), **close)
        if stop - start > 1:  # else nothing comes after the only token
            guesses = packed.mtp_hidden_BTD[row, start : stop - 1]
            torch.testing.assert_close(guesses, alone.mtp_hidden_BTD[0], **close)
    across = model(ids).hidden_BTD[0, 8:]
    assert not torch.allclose(across, packed.hidden_BTD[0, 8:], **close)


def test_places_begin_anew_with_each_document() -> None:
    expected = [[*range(7), 0, *range(12)], [*range(20)]]
    assert places_in_documents(DOCUMENTS).tolist() == expected
