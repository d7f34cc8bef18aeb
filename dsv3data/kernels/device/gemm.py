"""Blockwise-scaled FP8 GEMMs with promotion to fp32 every 128 of the summed axis [§3.3.2, Fig. 7b].

Both operands lie with the summed axis innermost (Hopper's FP8 tensor cores take no other); they
come and the result leaves by TMA. Each 128-wide product starts from a fresh accumulator: only so
does promotion happen, since Hopper adds with some 14 bits. Scales are loaded as vectors: a scalar
load in a pipelined loop has raced in Triton. Programs are persistent: as many as fill the GPU, each
taking every n-th tile.

Legend: M, N rows of the factors, K summed axis, G = K / 128, E experts, P slots.
"""

import triton
import triton.language as tl


@triton.jit
def place_of_tile(tile, tiles_m, tiles_n, BAND: tl.constexpr):
    """Tile number → (m, n) in bands of BAND tiles of M: neighbours share operands in L2."""
    per_band = BAND * tiles_n
    first_m = tile // per_band * BAND
    height = tl.minimum(tiles_m - first_m, BAND)
    inside = tile % per_band
    return first_m + inside % height, inside // height


# Token counts vary: one kernel serves all.
@triton.jit(do_not_specialize=["M", "N", "n_groups"])
def matmul_blocks_kernel(
    a_MK, b_ENK, a_scales_GM, b_scales_EnG, tile_experts, out_MN,
    M, N, n_groups, whole_n,
    GROUPED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BAND: tl.constexpr,
    SPECIALISED: tl.constexpr,
):  # fmt: skip
    """out = a · b[expert]ᵀ; a has 1×128 scales, b 128×128. BLOCK_N divides 128.

    Args:
        a_MK, b_ENK, out_MN: tensor descriptors of [BLOCK_M, 128], [BLOCK_N, 128] and
            [BLOCK_M, BLOCK_N] tiles; b's view is [E · whole_n, K] with 128 dividing `whole_n`.
        tile_experts: int32 per 128 rows of a, -1 for rows past the last expert; read if GROUPED.
    """
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0)):
        m, n = place_of_tile(tile, tiles_m, tiles_n, BAND)
        expert = 0
        groups = n_groups
        if GROUPED:
            expert = tl.load(tile_experts + m * BLOCK_M // 128)
            groups = tl.where(expert < 0, 0, n_groups)
        row = m * BLOCK_M + tl.arange(0, BLOCK_M)
        b_row = expert * whole_n + n * BLOCK_N
        # The same address for every row: a vector all the same.
        b_scales = b_scales_EnG + (b_row // 128) * n_groups + tl.zeros((BLOCK_M,), tl.int32)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for group in tl.range(0, groups, warp_specialize=SPECIALISED):
            a = a_MK.load([m * BLOCK_M, group * 128])
            b = b_ENK.load([b_row, group * 128])
            a_scale = tl.load(a_scales_GM + group * M + row, mask=row < M, other=0.0)
            b_scale = tl.load(b_scales + group)
            total += tl.dot(a, b.T) * (a_scale * b_scale)[:, None]
        out_MN.store([m * BLOCK_M, n * BLOCK_N], total.to(out_MN.dtype))


# M and N are widths of a layer here: known to be even, the scales load by twos.
@triton.jit(do_not_specialize=["n_experts"])
def matmul_rows_kernel(
    a_MP, b_NP, a_scales_GM, b_scales_GN, starts_E1, out_EMN,
    M, N, n_experts,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BAND: tl.constexpr, SPECIALISED: tl.constexpr,
):  # fmt: skip
    """out[e] = a · bᵀ over the slots of expert e; both have 1×128 scales along the slots.

    The weight gradient. `starts_E1` are multiples of 128; an expert without a slot gets zeros.
    """
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    per_expert = tiles_m * tiles_n
    for tile in tl.range(tl.program_id(0), n_experts * per_expert, tl.num_programs(0)):
        expert = tile // per_expert
        m, n = place_of_tile(tile % per_expert, tiles_m, tiles_n, BAND)
        first = tl.load(starts_E1 + expert) // 128
        last = tl.load(starts_E1 + expert + 1) // 128
        row = m * BLOCK_M + tl.arange(0, BLOCK_M)
        column = n * BLOCK_N + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for group in tl.range(first, last, warp_specialize=SPECIALISED):
            a = a_MP.load([m * BLOCK_M, group * 128])
            b = b_NP.load([n * BLOCK_N, group * 128])
            a_scale = tl.load(a_scales_GM + group * M + row, mask=row < M, other=0.0)
            b_scale = tl.load(b_scales_GN + group * N + column, mask=column < N, other=0.0)
            total += tl.dot(a, b.T) * a_scale[:, None] * b_scale[None, :]
        out_EMN.store([expert, m * BLOCK_M, n * BLOCK_N], total.reshape(1, BLOCK_M, BLOCK_N))
