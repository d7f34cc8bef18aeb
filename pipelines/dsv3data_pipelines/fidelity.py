"""The paper against this code: every published value, ours read from the code, and the test.

`CLAIMS` holds what DeepSeek published about V3 [arXiv 2412.19437 unless another source is named].
A value of ours that is another one needs a departure in words; where none is given the claim
differs, which is a bug.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsv3data.contracts import special_tokens
from dsv3data.contracts.config import load_config
from dsv3data.contracts.special_tokens import ADDED, IN_VOCABULARY, PLACEHOLDERS
from dsv3data.model.accounting import count_parameters, flop_per_token
from dsv3data.model.config import ModelConfig
from dsv3data.packing.config import PackConfig
from dsv3data.training import presets
from dsv3data.training.config import FP8_GATE, TrainConfig
from dsv3data.training.cost import dollars, tflop_per_s
from dsv3data.training.schedule import Knobs, knobs, planned_tokens
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.pretokenizer import DIGITS, HAN_AND_KANA, PATTERNS

if TYPE_CHECKING:
    from dsv3data.model.transformer import Transformer

Verdict = Literal["equal", "departs", "differs"]
Value = float | str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published value.

    Attributes:
        section: of the paper, or another source.
        ours: reads our value from the code.
        departure: why ours is another one; empty if it is not.
        test: `file::function` below tests/ that fails when the rule is broken.
    """

    section: str
    what: str
    published: Value
    ours: Callable[[], Value]
    test: str
    departure: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim looked at."""

    claim: Claim
    ours: Value
    verdict: Verdict


def examine(claims: Sequence[Claim]) -> list[Finding]:
    """Compare every claim with the code; numbers to nine digits."""
    findings = []
    for claim in claims:
        ours = claim.ours()
        if _same(claim.published, ours):
            verdict: Verdict = "equal"
        else:
            verdict = "departs" if claim.departure else "differs"
        findings.append(Finding(claim=claim, ours=ours, verdict=verdict))
    return findings


def _same(published: Value, ours: Value) -> bool:
    if isinstance(published, str) or isinstance(ours, str):
        return published == ours
    return math.isclose(published, ours, rel_tol=1e-9)


# Readers of our side.


@cache
def _preset(name: str) -> TrainConfig:
    return load_config(TrainConfig, Path(presets.__file__).with_name(f"{name}.toml"))


def _v3() -> TrainConfig:
    return _preset("671b")


def _knobs(tokens: float, *, step: int = 10**6) -> Knobs:
    """What is in force after so many tokens of pre-training."""
    return knobs(_v3(), step=step, tokens=int(tokens))


def _model(name: str) -> Callable[[], Value]:
    def read() -> Value:
        value: Value = getattr(_v3().model, name)
        return value

    return read


def _optimizer(name: str) -> Callable[[], Value]:
    def read() -> Value:
        value: Value = getattr(_v3().optimizer, name)
        return value

    return read


def _learning_rate(step: int, tokens: float) -> Callable[[], Value]:
    return lambda: _knobs(tokens, step=step).lr


def _phase(preset: str, field: str) -> Callable[[], Value]:
    """A field of a phase of long-context extension."""

    def read() -> Value:
        value: Value = attrgetter(field)(_preset(preset))
        return value

    return read


def _v3_id(text: str) -> Callable[[], Value]:
    """The id of a control token in a vocabulary of V3's size."""
    order = (*IN_VOCABULARY, *[None] * (128_000 - len(IN_VOCABULARY)), *ADDED)
    return lambda: order.index(text)


def _yarn_factor() -> Value:
    """What YaRN multiplies queries and keys by: the root of its share of the softmax scale."""
    from dsv3data.model.rope import softmax_scale

    stretched = softmax_scale(_preset("671b-128k").model) / softmax_scale(_v3().model)
    return round(math.sqrt(stretched), 9)


def _softmax_scale() -> Value:
    from dsv3data.model.rope import softmax_scale

    return softmax_scale(_v3().model)


def _tile() -> Value:
    from dsv3data.kernels.formats import TILE

    return TILE


def _largest_of_e4m3() -> Value:
    from dsv3data.kernels.formats import E4M3

    return E4M3.largest


def _bits_of_e5m6() -> Value:
    """Sign, exponent and mantissa."""
    from dsv3data.kernels.formats import E5M6

    exponents = E5M6.largest_exponent - E5M6.smallest_exponent + 2  # that of 0 among them
    return 1 + math.ceil(math.log2(exponents)) + E5M6.mantissa_bits


_ROWS = 257  # of embedding and head: no other size of the model below


@cache
def _small_model() -> Transformer:
    """Every part once: to look at, not to run."""
    from dsv3data.model.transformer import Transformer

    return Transformer(
        ModelConfig(
            vocab_size=_ROWS, context=16, n_layers=2, n_dense_layers=1, d_model=16, d_ff_dense=16,
            n_heads=1, q_lora_rank=16, kv_lora_rank=16, n_routed_experts=16, d_expert=16,
        )
    )  # fmt: skip


def _kept_after_attention() -> Value:
    from dsv3data.model.mla import MLA

    layers = [module for module in _small_model().modules() if isinstance(module, MLA)]
    return ", ".join({layer.out.keep_input for layer in layers})


def _weight_dtype() -> Value:
    return ", ".join({str(weight.dtype) for weight in _small_model().parameters()})


def _embeddings_of_mtp() -> Value:
    """Embeddings and heads inside of the MTP module."""
    weights = dict(_small_model().named_parameters())
    return sum(name.startswith("mtp.") and _ROWS in weights[name].shape for name in weights)


def _flop(*, causal: bool, mtp: bool) -> Callable[[], Value]:
    def read() -> Value:
        flop = flop_per_token(_v3().model, context=4096, causal=causal, mtp=mtp)
        return round(flop / 1e9, 1)

    return read


T, B = 1e12, 1e9

CLAIMS: tuple[Claim, ...] = (
    # Tokenizer
    Claim(
        section="§4.1",
        what="vocabulary, model entries",
        published=128_000,
        ours=lambda: TokenizerTrainConfig().vocab_size,
        test="tokenizer_training/test_train_tokenizer.py::test_id_layout",
    ),
    Claim(
        section="tokenizer.json",
        what="merges",
        published=127_741,
        ours=lambda: TokenizerTrainConfig().vocab_size - len(IN_VOCABULARY) - 256,
        test="tokenizer_training/test_train_tokenizer.py::test_id_layout",
    ),
    Claim(
        section="tokenizer.json",
        what="pre-tokenizer, number of splits",
        published=3,
        ours=lambda: len(PATTERNS),
        test="tokenizer_training/test_pretokenizer.py::test_all_three_in_a_row",
    ),
    Claim(
        section="tokenizer.json",
        what="digits in groups",
        published=r"\p{N}{1,3}",
        ours=lambda: DIGITS,
        test="tokenizer_training/test_pretokenizer.py::test_digits_in_groups_of_three_from_the_left",
    ),
    Claim(
        section="tokenizer.json",
        what="Han and kana stay together",
        published="[一-龥぀-ゟ゠-ヿ]+",
        ours=lambda: HAN_AND_KANA,
        test="tokenizer_training/test_pretokenizer.py::test_han_and_kana_runs",
    ),
    Claim(
        section="tokenizer.json",
        what="id of begin of sentence",
        published=0,
        ours=_v3_id(special_tokens.BOS),
        test="contracts/test_special_tokens.py::test_ids_inside_the_vocabulary",
    ),
    Claim(
        section="tokenizer.json",
        what="id of end of sentence",
        published=1,
        ours=_v3_id(special_tokens.EOS),
        test="contracts/test_special_tokens.py::test_ids_inside_the_vocabulary",
    ),
    Claim(
        section="tokenizer.json",
        what="id of pad",
        published=2,
        ours=_v3_id(special_tokens.PAD),
        test="contracts/test_special_tokens.py::test_ids_inside_the_vocabulary",
    ),
    Claim(
        section="tokenizer.json",
        what="placeholders",
        published=800,
        ours=lambda: len(PLACEHOLDERS),
        test="contracts/test_special_tokens.py::test_there_are_128_815_ids_in_all",
    ),
    Claim(
        section="tokenizer.json",
        what="id of fim hole",
        published=128_800,
        ours=_v3_id(special_tokens.FIM_HOLE),
        test="contracts/test_special_tokens.py::test_added_tokens_have_the_published_ids",
    ),
    Claim(
        section="tokenizer.json",
        what="id of fim begin",
        published=128_801,
        ours=_v3_id(special_tokens.FIM_BEGIN),
        test="contracts/test_special_tokens.py::test_added_tokens_have_the_published_ids",
    ),
    Claim(
        section="tokenizer.json",
        what="id of fim end",
        published=128_802,
        ours=_v3_id(special_tokens.FIM_END),
        test="contracts/test_special_tokens.py::test_added_tokens_have_the_published_ids",
    ),
    Claim(
        section="tokenizer.json",
        what="ids in all",
        published=128_815,
        ours=lambda: TokenizerTrainConfig().vocab_size + len(ADDED),
        test="contracts/test_special_tokens.py::test_there_are_128_815_ids_in_all",
    ),
    Claim(
        section="config.json",
        what="embedding rows of the model",
        published=129_280,
        ours=_model("vocab_size"),
        test="training/test_train_config.py::test_671b_config_is_deepseek_v3",
    ),
    # Data
    Claim(
        section="§4.1",
        what="FIM, share of documents",
        published=0.1,
        ours=lambda: PackConfig().fim_rate,
        test="packing/test_fim.py::test_the_rate_of_chosen_documents_is_binomial_and_keyed",
    ),
    Claim(
        section="§4.1",
        what="FIM, order of parts",
        published="psm",
        ours=lambda: PackConfig().fim_mode,
        test="packing/test_fim.py::test_parse_is_the_inverse_of_assemble",
    ),
    Claim(
        section="§4.2",
        what="tokens in a row",
        published=4096,
        ours=lambda: PackConfig().context,
        test="packing/test_best_fit.py::test_equals_the_naive_twin_piece_by_piece",
    ),
    Claim(
        section="§4.1",
        what="punctuation+newline tokens split at random, share",
        published="not published",
        ours=lambda: PackConfig().debias_rate,
        test="tokenizer_training/test_debias.py::test_each_token_is_split_where_the_line_breaks_begin",
        departure="a tenth is our choice",
    ),
    Claim(
        section="§4.1",
        what="FIM, where a document is split",
        published="not published",
        ours=lambda: "code points, uniform",
        test="packing/test_fim.py::test_split_points_are_uniform_independent_and_keyed",
        departure="our choice; lines for domains of fim_line_domains",
    ),
    Claim(
        section="§4.1",
        what="documents longer than a row",
        published="not published",
        ours=lambda: "cut",
        test="packing/test_cut.py::test_equals_the_naive_twin",
        departure="our choice: cut into full rows",
    ),
    Claim(
        section="§4.1",
        what="shares of domains",
        published="not published",
        ours=lambda: "by data.stages" if _v3().data.stages else "every row once",
        test="loader/test_mixture.py::test_shares_are_exact_at_every_row",
        departure="our choice: data.stages sets others",
    ),
    # Model
    *(
        Claim(
            section="§4.2",
            what=what,
            published=published,
            ours=_model(name),
            test="training/test_train_config.py::test_671b_config_is_deepseek_v3",
        )
        for what, name, published in (
            ("layers", "n_layers", 61),
            ("dense layers", "n_dense_layers", 3),
            ("width", "d_model", 7168),
            ("width of dense SwiGLU", "d_ff_dense", 18_432),
            ("attention heads", "n_heads", 128),
            ("query compression", "q_lora_rank", 1536),
            ("key-value compression", "kv_lora_rank", 512),
            ("head width without position", "d_qk_nope", 128),
            ("head width with position", "d_qk_rope", 64),
            ("head width of values", "d_v", 128),
            ("routed experts", "n_routed_experts", 256),
            ("shared experts", "n_shared_experts", 1),
            ("width of an expert", "d_expert", 2048),
            ("experts of a token", "top_k", 8),
            ("groups (nodes)", "n_groups", 8),
            ("groups of a token, at most", "top_k_groups", 4),
            ("factor of routed experts", "routed_scale", 2.5),
            ("prediction depth", "mtp_depth", 1),
            ("RMSNorm epsilon", "norm_eps", 1e-6),
            ("standard deviation of initial weights", "init_std", 0.006),
        )
    ),
    Claim(
        section="§4.2",
        what="rotary base",
        published=10_000,
        ours=_model("rope_theta"),
        test="model/test_parity_transformers.py::test_logits_and_gradients_equal_transformers",
    ),
    Claim(
        section="§2.1.1",
        what="softmax scale of attention",
        published=192**-0.5,
        ours=_softmax_scale,
        test="model/test_attention.py::test_softmax_factor_belongs_to_yarn_alone",
    ),
    Claim(
        section="Eq. 21",
        what="order in front of the MTP projection",
        published="hidden_embedding",
        ours=_model("mtp_input_order"),
        test="model/test_mtp.py::test_the_two_orders_are_one_model_with_exchanged_halves",
        departure="the released weights multiply the embedding first; a config field",
    ),
    Claim(
        section="§2.2",
        what="embeddings and heads of the MTP module's own",
        published=0,
        ours=_embeddings_of_mtp,
        test="model/test_accounting.py::test_counting_from_sizes_equals_counting_a_model",
    ),
    Claim(
        section="config.json",
        what="parameters without MTP",
        published=671_026_419_200,
        ours=lambda: count_parameters(_v3().model).main,
        test="model/test_accounting.py::test_deepseek_v3_has_the_published_number_of_parameters",
    ),
    Claim(
        section="README of V3",
        what="parameters active for a token, billions",
        published=37.6,
        ours=lambda: round(count_parameters(_v3().model).active / B, 1),
        test="model/test_accounting.py::test_deepseek_v3_has_the_published_number_of_parameters",
    ),
    # Balancing and losses
    Claim(
        section="§4.2",
        what="bias update speed gamma",
        published=0.001,
        ours=lambda: _knobs(0).gamma,
        test="model/test_router.py::test_bias_falls_by_gamma_where_overloaded_rises_where_not",
    ),
    Claim(
        section="§4.2",
        what="gamma after 14.3T tokens",
        published=0.0,
        ours=lambda: _knobs(14.3 * T).gamma,
        test="training/test_schedule.py::test_bias_speed_and_mtp_weight_change_when_the_paper_says",
    ),
    Claim(
        section="§4.2",
        what="factor alpha of the sequence-wise loss",
        published=1e-4,
        ours=lambda: _v3().balance.alpha,
        test="model/test_router.py::test_sequence_balance_loss_equals_the_equations_and_ignores_padding",
    ),
    Claim(
        section="§4.2",
        what="MTP weight lambda",
        published=0.3,
        ours=lambda: _knobs(0).mtp_weight,
        test="training/test_loss.py::test_losses_equal_their_definitions",
    ),
    Claim(
        section="§4.2",
        what="lambda after 10T tokens",
        published=0.1,
        ours=lambda: _knobs(10 * T).mtp_weight,
        test="training/test_schedule.py::test_bias_speed_and_mtp_weight_change_when_the_paper_says",
    ),
    # Precision and memory
    Claim(
        section="§3.3",
        what="precision of linear layers",
        published="fp8",
        ours=lambda: _v3().precision,
        test="training/test_compare.py::test_what_stays_high",
    ),
    Claim(
        section="§3.3.2",
        what="tile of activations (1×) and weights (squared)",
        published=128,
        ours=_tile,
        test="kernels/test_reference.py::test_forward_and_input_gradient",
    ),
    Claim(
        section="§3.3.2",
        what="largest value of E4M3",
        published=448,
        ours=_largest_of_e4m3,
        test="kernels/test_formats.py::test_values_beyond_the_largest_are_held_there",
    ),
    Claim(
        section="§3.3.3",
        what="kept input of the layer after attention",
        published="e5m6",
        ours=_kept_after_attention,
        test="kernels/test_layers.py::test_twelve_bits_keep_an_eighth_of_the_error",
    ),
    Claim(
        section="§3.3.3",
        what="bits of that format",
        published=12,
        ours=_bits_of_e5m6,
        test="kernels/test_formats.py::test_twelve_bits_keep_every_code",
    ),
    Claim(
        section="§3.3.3",
        what="master weights",
        published="torch.float32",
        ours=_weight_dtype,
        test="training/test_compare.py::test_the_head_in_bf16_keeps_an_fp32_gradient",
    ),
    Claim(
        section="§3.3",
        what="loss of FP8 against BF16, at most",
        published=0.0025,
        ours=lambda: FP8_GATE,
        test="training/test_compare.py::test_the_gate_is_on_the_mean_of_the_seeds",
    ),
    Claim(
        section="§3.2.3",
        what="made again in the backward pass",
        published="rms_norm, mla_up, swiglu",
        ours=lambda: ", ".join(_v3().recompute),
        test="model/test_recompute.py::test_losses_and_gradients_are_bitwise_those_without",
    ),
    Claim(
        section="§4.1",
        what="mask between the documents of a row",
        published="none",
        ours=lambda: "documents" if _v3().document_mask else "none",
        test="training/test_step.py::test_documents_are_apart_only_if_asked_for",
    ),
    # Optimizer and schedule
    *(
        Claim(
            section="§4.2",
            what=what,
            published=published,
            ours=_optimizer(name),
            test="training/test_optimizer.py::test_twenty_steps_equal_torch",
        )
        for what, name, published in (
            ("AdamW beta 1", "beta1", 0.9),
            ("AdamW beta 2", "beta2", 0.95),
            ("weight decay", "weight_decay", 0.1),
            ("gradient clipping norm", "clip", 1.0),
        )
    ),
    *(
        Claim(
            section="§4.2",
            what=what,
            published=published,
            ours=_learning_rate(step, tokens),
            test="training/test_schedule.py::test_learning_rate_of_v3",
        )
        for what, step, tokens, published in (
            ("learning rate, end of warm-up (2K steps)", 1999, 1e9, 2.2e-4),
            ("learning rate after 10T tokens", 10**6, 10 * T, 2.2e-4),
            ("learning rate halfway down the cosine", 10**6, 12.15 * T, (2.2e-4 + 2.2e-5) / 2),
            ("learning rate after 14.3T tokens", 10**6, 14.3 * T, 2.2e-5),
            ("learning rate of the last 167B tokens", 10**6, 14.633 * T, 7.3e-6),
        )
    ),
    Claim(
        section="§4.2",
        what="AdamW epsilon",
        published="not published",
        ours=_optimizer("eps"),
        test="training/test_optimizer.py::test_twenty_steps_equal_torch",
        departure="our choice",
    ),
    Claim(
        section="§3.2.3",
        what="moving average of the weights, decay",
        published="not published",
        ours=lambda: _v3().ema_decay,
        test="training/test_checkpoint.py::test_the_average_is_its_recursion",
        departure="our choice; in CPU memory, as published",
    ),
    Claim(
        section="§4.2",
        what="rows of a batch, at the start",
        published=3072,
        ours=lambda: _knobs(0).batch_rows,
        test="training/test_schedule.py::test_batches_grow_as_the_paper_says",
    ),
    Claim(
        section="§4.2",
        what="rows of a batch after 469B tokens",
        published=15_360,
        ours=lambda: _knobs(469 * B).batch_rows,
        test="training/test_schedule.py::test_batches_grow_as_the_paper_says",
    ),
    Claim(
        section="§3.3.3",
        what="moments of AdamW",
        published="bf16",
        ours=_optimizer("moments"),
        test="training/test_optimizer.py::test_moments_in_bf16_stay_near_those_in_fp32",
    ),
    Claim(
        section="§4.2",
        what="tokens of pre-training, trillions",
        published=14.8,
        ours=lambda: round(planned_tokens(_v3()) / T, 1),
        test="training/test_train_config.py::test_671b_config_is_deepseek_v3",
    ),
    # Long context
    Claim(
        section="§4.3",
        what="YaRN scale in pre-training (1: off)",
        published=1.0,
        ours=lambda: _v3().model.yarn.factor,
        test="model/test_model_config.py::test_yarn_cannot_stay_on_at_the_original_context",
    ),
    *(
        Claim(
            section="§4.3",
            what=f"{what}, phase {name}",
            published=published,
            ours=_phase(f"671b-{name}", field),
            test="training/test_train_config.py::test_the_phases_of_long_context",
        )
        for name, rows, context in (("32k", 1920, 32_768), ("128k", 480, 131_072))
        for what, published, field in (
            ("YaRN scale", 40.0, "model.yarn.factor"),
            ("YaRN alpha", 1.0, "model.yarn.alpha"),
            ("YaRN beta", 32.0, "model.yarn.beta"),
            ("tokens in a row", context, "model.context"),
            ("rows of a batch", rows, "batch_rows"),
            ("steps", 1000, "steps"),
            ("learning rate", 7.3e-6, "optimizer.lr"),
        )
    ),
    Claim(
        section="§4.3",
        what="YaRN factor of queries and keys at 40",
        published=round(0.1 * math.log(40) + 1, 9),
        ours=_yarn_factor,
        test="model/test_attention.py::test_softmax_factor_belongs_to_yarn_alone",
    ),
    # Accounting
    Claim(
        section="arXiv 2505.09343",
        what="GFLOP for a token, causal",
        published=250.4,
        ours=_flop(causal=True, mtp=False),
        test="model/test_accounting.py::test_flop_per_token_meet_the_published_figures",
        departure="250.5 by our count of every matrix, 0.02 % more",
    ),
    Claim(
        section="arXiv 2505.09343",
        what="GFLOP for a token, not causal",
        published=281.2,
        ours=_flop(causal=False, mtp=False),
        test="model/test_accounting.py::test_flop_per_token_meet_the_published_figures",
    ),
    Claim(
        section="arXiv 2505.09343",
        what="GFLOP for a token, causal, with MTP",
        published=260.6,
        ours=_flop(causal=True, mtp=True),
        test="model/test_accounting.py::test_flop_per_token_meet_the_published_figures",
    ),
    Claim(
        section="arXiv 2505.09343",
        what="TFLOP/s of a GPU at 1,541.7 tokens/s",
        published=386,
        ours=lambda: round(tflop_per_s(1541.7, flop_per_token(_v3().model, context=4096))),
        test="training/test_cost.py::test_published_figures",
    ),
    Claim(
        section="§1",
        what="millions of dollars for 2.788M GPU hours",
        published=5.576,
        ours=lambda: round((dollars(2.788e6, 2.0) or 0) / 1e6, 3),
        test="training/test_cost.py::test_published_figures",
    ),
)

# Published rules without a number: (section, rule, the test that proves it).
RULES: tuple[tuple[str, str, str], ...] = (
    (
        "tokenizer.json",
        "byte-level, no normalizer, no space in front",
        "tokenizer_training/test_pretokenizer.py::test_nothing_is_lost_and_bytes_become_the_alphabet",
    ),
    (
        "tokenizer.json",
        "fullwidth bars and low lines in control tokens",
        "contracts/test_special_tokens.py::test_texts_use_the_fullwidth_bar_and_the_low_line",
    ),
    (
        "§4.1",
        "best-fit packing; documents stay whole if a row holds them",
        "packing/test_best_fit.py::test_equals_the_naive_twin_piece_by_piece",
    ),
    (
        "§4.1",
        "FIM is made of documents, before packing",
        "packing/test_fim.py::test_a_document_as_long_as_a_row_is_never_cut",
    ),
    (
        "§2.1.1",
        "latent attention, shared rotary key, norms of the latents",
        "model/test_parity_transformers.py::test_logits_and_gradients_equal_transformers",
    ),
    (
        "§2.1.1",
        "rotary pairs are neighbours",
        "model/test_attention.py::test_neighbouring_numbers_turn_together",
    ),
    (
        "§2.1.2",
        "sigmoid scores in fp32",
        "model/test_router.py::test_scores_are_computed_in_fp32_whatever_comes_in",
    ),
    (
        "§2.1.2",
        "groups by the sum of their two best, experts inside of the best groups",
        "model/test_router.py::test_choice_equals_the_equations_also_where_scores_are_negative",
    ),
    (
        "§2.1.2",
        "the bias chooses and does not weigh",
        "model/test_router.py::test_the_bias_decides_who_is_chosen_but_not_how_much_he_weighs",
    ),
    (
        "§2.1.2",
        "no token is dropped",
        "model/test_moe.py::test_no_token_is_dropped_when_one_expert_gets_everything",
    ),
    (
        "§2.1.2",
        "loads of the whole batch, counted once also where layers are made again",
        "model/test_recompute.py::test_a_region_runs_twice_and_routers_count_once",
    ),
    (
        "Eq. 17-20",
        "sequence-wise balance loss",
        "model/test_router.py::test_sequence_balance_loss_equals_the_equations_and_ignores_padding",
    ),
    (
        "Eq. 21-25",
        "the MTP module joins a state with the next token's embedding",
        "model/test_mtp.py::test_position_i_joins_hidden_i_with_the_embedding_of_token_i_plus_1",
    ),
    (
        "§5.4.3",
        "guesses of the MTP module change no generated token",
        "generation/test_generate.py::test_speculation_changes_no_token",
    ),
    (
        "§3.3.1",
        "embedding, head, gating, norms and the core of attention stay high",
        "training/test_compare.py::test_what_stays_high",
    ),
    (
        "§3.3.2",
        "sums start anew after each 128 of K",
        "kernels/test_compile.py::test_every_128_of_k_start_from_zero",
    ),
    (
        "App. B.2",
        "gradients in tiles of 1×128 and 128×1, never 128×128",
        "kernels/test_reference.py::test_outliers_of_a_row_or_a_token_do_not_spoil_others",
    ),
    (
        "§3.3.3",
        "linear layers keep their inputs in FP8",
        "kernels/test_layers.py::test_what_a_linear_layer_keeps",
    ),
    (
        "§4.3",
        "YaRN leaves fast pairs alone and divides slow ones",
        "model/test_attention.py::test_yarn_keeps_fast_pairs_and_divides_slow_ones",
    ),
    (
        "§4.3",
        "an extended model finds what stands far back",
        "training/test_long_context.py::"
        "test_yarn_finds_past_the_original_length_what_the_plain_model_loses",
    ),
)

# What the paper has and this code has not, or cannot show without DeepSeek's weights.
NOT_BUILT: tuple[tuple[str, str], ...] = (
    ("§3.2", "pipeline (16), expert (64) and data parallelism, DualPipe: training is one process"),
    ("§4.1", "cleaning and deduplication; code by repository [arXiv 2401.14196]"),
    ("§4.4", "scores on public benchmarks"),
    (
        "§5.4.3",
        "85 to 90 % of guesses accepted: of their weights; `generate --compare` measures ours",
    ),
    ("§5", "fine-tuning, reinforcement learning, distillation"),
)
