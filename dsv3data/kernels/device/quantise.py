"""Quantisation kernels: memory-bound, one pass over the input [§3.3.2].

Legend: R rows, C columns, G = whole tiles of 128 columns, P gathered rows, E matrices of a stack.
Codes are written as uint8; scales as in `formats.py`. A source row of -1 stands for zeros. Token
counts vary from call to call and are not compiled in.
"""

import triton
import triton.language as tl

from dsv3data.kernels.device.encode import (
    TOP_MANTISSA_12,
    decode,
    decode_12,
    encode,
    encode_12,
    magnitude_bits,
    power_of_two,
    scale_and_inverse,
)


@triton.jit(do_not_specialize=["n_rows"])
def quantise_rows_kernel(
    x_RC, source_P, codes_PC, scales_GP, n_rows, n_columns, x_stride, codes_stride,
    GATHER: tl.constexpr, POWER_OF_TWO: tl.constexpr, INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS rows × one tile of 128 columns per program: grid (⌈P / ROWS⌉, G)."""
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = group * 128 + tl.arange(0, 128)
    inside = row < n_rows
    source = row
    if GATHER:
        source = tl.load(source_P + row, mask=inside, other=-1)
    mask = (inside & (source >= 0))[:, None] & (column < n_columns)[None, :]
    place = source.to(tl.int64)[:, None] * x_stride + column[None, :]
    x = tl.load(x_RC + place, mask=mask, other=0.0).to(tl.float32)
    scale, inverse = scale_and_inverse(tl.max(magnitude_bits(x), axis=1), POWER_OF_TWO)
    codes = encode(x, inverse[:, None], INTERPRETED)
    place = row.to(tl.int64)[:, None] * codes_stride + column[None, :]
    tl.store(codes_PC + place, codes, mask=inside[:, None])
    tl.store(scales_GP + group * n_rows + row, scale, mask=inside)


@triton.jit(do_not_specialize=["n_rows", "n_x_rows"])
def quantise_columns_kernel(
    x_RC, x_scales_GR, source_P, codes_CP, scales_gC,
    n_rows, n_columns, n_x_rows, x_stride, codes_stride,
    GATHER: tl.constexpr, BITS: tl.constexpr, POWER_OF_TWO: tl.constexpr,
    INTERPRETED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """128 rows × COLUMNS columns per program, written transposed: grid (⌈P / 128⌉, ⌈C / COLUMNS⌉).

    With BITS 8 or 12, x is E4M3 or packed E5M6 with 1×128 scales and is dequantised first (COLUMNS
    is 64, half a tile); with 0 it is plain.
    """
    group = tl.program_id(0)
    row = group * 128 + tl.arange(0, 128)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    source = row
    if GATHER:
        source = tl.load(source_P + row, mask=row < n_rows, other=-1)
    row_mask = (row < n_rows) & (source >= 0)
    mask = row_mask[:, None] & (column < n_columns)[None, :]
    start = source.to(tl.int64)[:, None] * x_stride
    if BITS == 0:
        x = tl.load(x_RC + start + column[None, :], mask=mask, other=0.0).to(tl.float32)
    else:
        tile = tl.program_id(1) * COLUMNS // 128
        old_scale = tl.load(x_scales_GR + tile * n_x_rows + source, mask=row_mask, other=0.0)
        if BITS == 8:
            codes = tl.load(x_RC + start + column[None, :], mask=mask, other=0)
            x = decode(codes, INTERPRETED) * old_scale[:, None]
        else:
            tl.static_assert(COLUMNS == 64)
            half = tl.program_id(1) % 2
            place = start + tile * 192 + tl.arange(0, COLUMNS)[None, :]
            low = tl.load(x_RC + place + half * 64, mask=mask, other=0)
            pair = tl.load(x_RC + place + 128, mask=mask, other=0)
            x = decode_12(low, pair, half * 4) * old_scale[:, None]
    scale, inverse = scale_and_inverse(tl.max(magnitude_bits(x), axis=0), POWER_OF_TWO)
    codes = encode(x, inverse[None, :], INTERPRETED)
    place = column.to(tl.int64)[:, None] * codes_stride + row[None, :]
    tl.store(codes_CP + place, tl.trans(codes), mask=(column < n_columns)[:, None])
    tl.store(scales_gC + group * n_columns + column, scale, mask=column < n_columns)


@triton.jit(do_not_specialize=["n_rows"])
def pack_rows_kernel(
    x_RC, packed_RB, scales_GR, n_rows, n_columns, x_stride, packed_stride, ROWS: tl.constexpr,
):  # fmt: skip
    """1×128 in E5M6, ROWS rows × one tile per program: grid (⌈R / ROWS⌉, G).

    The halves of a tile are two loads, since code i shares a byte with code i + 64.
    """
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < n_rows)[:, None]
    half = tl.arange(0, 64)[None, :]
    column = group * 128 + half
    place = row.to(tl.int64)[:, None] * x_stride + column
    left = tl.load(x_RC + place, mask=inside & (column < n_columns), other=0.0).to(tl.float32)
    right = tl.load(x_RC + place + 64, mask=inside & (column + 64 < n_columns), other=0.0)
    right = right.to(tl.float32)
    amax = tl.maximum(tl.max(magnitude_bits(left), axis=1), tl.max(magnitude_bits(right), axis=1))
    scale, inverse = power_of_two(amax, TOP_MANTISSA_12, 15)
    left, right = encode_12(left, inverse[:, None]), encode_12(right, inverse[:, None])
    place = row.to(tl.int64)[:, None] * packed_stride + group * 192 + half
    tl.store(packed_RB + place, (left & 0xFF).to(tl.uint8), mask=inside)
    tl.store(packed_RB + place + 64, (right & 0xFF).to(tl.uint8), mask=inside)
    pairs = (left >> 8) | ((right >> 8) << 4)
    tl.store(packed_RB + place + 128, pairs.to(tl.uint8), mask=inside)
    tl.store(scales_GR + group * n_rows + row, scale, mask=row < n_rows)


@triton.jit
def quantise_blocks_kernel(
    w_ERC, codes_ERC, codes_ECR, scales_Erc, scales_Ecr,
    n_rows, n_columns, whole_rows, whole_columns, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """One 128×128 block per program, written both ways round: grid (R / 128, C / 128, E)."""
    block_row, block_column, matrix = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = block_row * 128 + tl.arange(0, 128)
    column = block_column * 128 + tl.arange(0, 128)
    w_ERC += matrix.to(tl.int64) * n_rows * n_columns
    mask = (row < n_rows)[:, None] & (column < n_columns)[None, :]
    place = row.to(tl.int64)[:, None] * n_columns + column[None, :]
    w = tl.load(w_ERC + place, mask=mask, other=0.0).to(tl.float32)
    scale, inverse = scale_and_inverse(tl.max(tl.max(magnitude_bits(w), axis=1), axis=0), False)
    codes = encode(w, inverse, INTERPRETED)
    base = matrix.to(tl.int64) * whole_rows * whole_columns
    place = row.to(tl.int64)[:, None] * whole_columns + column[None, :]
    tl.store(codes_ERC + base + place, codes)
    place = column.to(tl.int64)[:, None] * whole_rows + row[None, :]
    tl.store(codes_ECR + base + place, tl.trans(codes))
    blocks_high, blocks_wide = tl.num_programs(0), tl.num_programs(1)
    first = matrix * blocks_high * blocks_wide
    tl.store(scales_Erc + first + block_row * blocks_wide + block_column, scale)
    tl.store(scales_Ecr + first + block_column * blocks_high + block_row, scale)


@triton.jit(do_not_specialize=["n_rows"])
def swiglu_quantise_kernel(
    h_RC2, weights_R, codes_RC, scales_GR, n_rows, n_columns, h_stride, codes_stride,
    WEIGHTED: tl.constexpr, INTERPRETED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """silu(gate) · up · weight → 1×128: grid (⌈R / ROWS⌉, G). `n_columns` is half of h's width."""
    group = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = group * 128 + tl.arange(0, 128)
    mask = (row < n_rows)[:, None] & (column < n_columns)[None, :]
    place = row.to(tl.int64)[:, None] * h_stride + column[None, :]
    gate = tl.load(h_RC2 + place, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(h_RC2 + n_columns + place, mask=mask, other=0.0).to(tl.float32)
    act = gate * tl.sigmoid(gate) * up
    if WEIGHTED:
        act *= tl.load(weights_R + row, mask=row < n_rows, other=0.0)[:, None]
    act = tl.where(mask, act, 0.0)  # a negative weight makes the filling -0
    scale, inverse = scale_and_inverse(tl.max(magnitude_bits(act), axis=1), True)
    codes = encode(act, inverse[:, None], INTERPRETED)
    place = row.to(tl.int64)[:, None] * codes_stride + column[None, :]
    tl.store(codes_RC + place, codes, mask=(row < n_rows)[:, None])
    tl.store(scales_GR + group * n_rows + row, scale, mask=row < n_rows)


@triton.jit(do_not_specialize=["n_rows"])
def swiglu_backward_kernel(
    h_RC2, h_scales_GR, grad_act_RC, weights_R, grad_h_RC2, act_RC, grad_weights_R,
    n_rows, n_columns, h_stride, grad_stride,
    INTERPRETED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """From h in E4M3: gradient of h, the weighted activation, gradient of the weights.

    Grid ⌈R / ROWS⌉. Gate and up may share a tile of h where 128 does not divide `n_columns`, so
    scales are looked up column by column.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    place = row.to(tl.int64)[:, None]
    weight = tl.load(weights_R + row, mask=inside, other=0.0)[:, None]
    grad_weight = tl.zeros((ROWS,), tl.float32)
    for group in range(0, tl.cdiv(n_columns, 128)):
        column = group * 128 + tl.arange(0, 128)[None, :]
        mask = inside[:, None] & (column < n_columns)
        gate_codes = tl.load(h_RC2 + place * h_stride + column, mask=mask, other=0)
        up_codes = tl.load(h_RC2 + place * h_stride + n_columns + column, mask=mask, other=0)
        gate_scale = tl.load(h_scales_GR + column // 128 * n_rows + row[:, None], mask=mask)
        up_place = (n_columns + column) // 128 * n_rows + row[:, None]
        up_scale = tl.load(h_scales_GR + up_place, mask=mask)
        gate = tl.where(mask, decode(gate_codes, INTERPRETED) * gate_scale, 0.0)
        up = tl.where(mask, decode(up_codes, INTERPRETED) * up_scale, 0.0)
        grad_act = tl.load(grad_act_RC + place * grad_stride + column, mask=mask, other=0.0)
        grad_act = grad_act.to(tl.float32)
        sigmoid = tl.sigmoid(gate)
        silu = gate * sigmoid
        grad = grad_act * weight
        grad_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
        grad_weight += tl.sum(grad_act * silu * up, axis=1)
        dtype = grad_h_RC2.dtype.element_ty
        out = place * (2 * n_columns) + column
        tl.store(grad_h_RC2 + out, grad_gate.to(dtype), mask=mask)
        tl.store(grad_h_RC2 + out + n_columns, (grad * silu).to(dtype), mask=mask)
        tl.store(act_RC + place * n_columns + column, (silu * up * weight).to(dtype), mask=mask)
    tl.store(grad_weights_R + row, grad_weight, mask=inside)


@triton.jit(do_not_specialize=["n_rows"])
def rmsnorm_quantise_kernel(
    x_RC, weight_C, codes_RC, scales_GR, n_rows, n_columns, x_stride, codes_stride, eps,
    INTERPRETED: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """x / rms(x) · weight → 1×128: grid R, a whole row of GROUPS tiles in registers."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS)
    column = group[:, None] * 128 + tl.arange(0, 128)[None, :]
    inside = column < n_columns
    x = tl.load(x_RC + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_C + column, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(tl.sum(x * x, axis=1), axis=0) / n_columns
    normed = x * tl.rsqrt(mean + eps) * weight
    scale, inverse = scale_and_inverse(tl.max(magnitude_bits(normed), axis=1), True)
    codes = encode(normed, inverse[:, None], INTERPRETED)
    tl.store(codes_RC + row * codes_stride + column, codes, mask=column < codes_stride)
    place = group.to(tl.int64) * n_rows + row
    tl.store(scales_GR + place, scale, mask=group * 128 < codes_stride)


@triton.jit(do_not_specialize=["n_tokens"])
def combine_kernel(
    x_PC, slots_TK, out_TC, n_tokens, n_columns, x_stride,
    TOP_K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum of each token's slots in fp32 and a fixed order: grid (⌈T / ROWS⌉, ⌈C / COLUMNS⌉)."""
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = token < n_tokens
    mask = inside[:, None] & (column < n_columns)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for visit in tl.static_range(TOP_K):
        slot = tl.load(slots_TK + token * TOP_K + visit, mask=inside, other=0).to(tl.int64)
        total += tl.load(x_PC + slot[:, None] * x_stride + column, mask=mask, other=0.0).to(
            tl.float32
        )
    place = token.to(tl.int64)[:, None] * n_columns + column
    tl.store(out_TC + place, total.to(out_TC.dtype.element_ty), mask=mask)
