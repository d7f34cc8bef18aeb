"""One tile of fp32 → codes and scales. Inlined into the kernels of `quantise.py`.

Twins: `scale_of`, `to_e4m3` and `e5m6_bytes` of `dsv3data/kernels/formats.py`. Magnitudes are
compared as integers, the bits of non-negative floats: that order puts NaN above infinity above all
others, so an amax cannot lose one.
"""

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)
TOP_MANTISSA = tl.constexpr(0x600000)  # of 448 = 1.75 · 2^8
LARGEST_12 = tl.constexpr(65024.0)
TOP_MANTISSA_12 = tl.constexpr(0x7E0000)  # of 65,024 = 1.984375 · 2^15
SMALLEST_AMAX = tl.constexpr((127 - 100) << 23)  # the bits of 2^-100
INFINITY = tl.constexpr(0x7F800000)


@triton.jit
def magnitude_bits(x):
    """|x| of fp32 as int32 that sort like it."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scale_and_inverse(amax_bits, POWER_OF_TWO: tl.constexpr):
    """fp32 scale of a tile and its inverse; NaN and 0 if the tile holds NaN or infinity."""
    if POWER_OF_TWO:
        return power_of_two(amax_bits, TOP_MANTISSA, 8)
    scale = tl.maximum(amax_bits, SMALLEST_AMAX).to(tl.float32, bitcast=True) * (1 / 448.0)
    inverse = tl.div_rn(1.0, scale)
    bad = amax_bits >= INFINITY
    return tl.where(bad, float("nan"), scale), tl.where(bad, 0.0, inverse)


@triton.jit
def power_of_two(amax_bits, TOP: tl.constexpr, EXPONENT: tl.constexpr):
    """The smallest power of two that fits a format's largest value, and its inverse."""
    rounded = (tl.maximum(amax_bits, SMALLEST_AMAX) + (0x7FFFFF - TOP)) & 0x7F800000
    scale_bits = rounded - (EXPONENT << 23)
    scale = scale_bits.to(tl.float32, bitcast=True)
    inverse = ((254 << 23) - scale_bits).to(tl.float32, bitcast=True)
    bad = amax_bits >= INFINITY
    return tl.where(bad, float("nan"), scale), tl.where(bad, 0.0, inverse)


@triton.jit
def encode(x, inverse, INTERPRETED: tl.constexpr):
    """fp32 times an inverse scale (which broadcasts) → uint8 codes; 0 where the inverse is 0."""
    scaled = tl.minimum(tl.maximum(x * inverse, -LARGEST), LARGEST)
    scaled = tl.where(inverse == 0.0, 0.0, scaled)
    if INTERPRETED:
        return e4m3_bits(scaled)
    return scaled.to(tl.float8e4nv).to(tl.uint8, bitcast=True)


@triton.jit
def e4m3_bits(x):
    """The cast by integers, ties to even, for |x| ≤ 448: the interpreter's own loses carries."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    # Below 2^-6 steps are 2^-9, which is the spacing of fp32 at 2^14: adding rounds.
    shifted = magnitude.to(tl.float32, bitcast=True) + 16384.0
    subnormal = shifted.to(tl.int32, bitcast=True) - ((127 + 14) << 23)
    code = tl.where(magnitude < ((127 - 6) << 23), subnormal, normal)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def decode(codes, INTERPRETED: tl.constexpr):
    """uint8 codes of finite numbers → fp32."""
    if INTERPRETED:
        magnitude = (codes & 0x7F).to(tl.int32)
        normal = ((magnitude << 20) + (120 << 23)).to(tl.float32, bitcast=True)
        value = tl.where(magnitude < 8, magnitude.to(tl.float32) * 0.001953125, normal)
        sign = (codes & 0x80).to(tl.int32) << 24
        return (value.to(tl.int32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    return codes.to(tl.float8e4nv, bitcast=True).to(tl.float32)


@triton.jit
def encode_12(x, inverse):
    """fp32 times an inverse scale → int32 codes of 12 bits, ties to even; 0 where that is 0."""
    scaled = tl.minimum(tl.maximum(x * inverse, -LARGEST_12), LARGEST_12)
    bits = tl.where(inverse == 0.0, 0.0, scaled).to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    normal = ((magnitude + 0xFFFF + ((magnitude >> 17) & 1)) >> 17) - ((127 - 15) << 6)
    # Below 2^-14 steps are 2^-20, which is the spacing of fp32 at 2^3: adding rounds.
    shifted = magnitude.to(tl.float32, bitcast=True) + 8.0
    subnormal = shifted.to(tl.int32, bitcast=True) - ((127 + 3) << 23)
    code = tl.where(magnitude < ((127 - 14) << 23), subnormal, normal)
    return code | ((bits >> 20) & 0x800)


@triton.jit
def decode_12(low, pair, SHIFT):
    """Lower 8 bits of codes, and upper 4 at SHIFT of a shared byte → fp32."""
    high = (pair.to(tl.int32) >> SHIFT) & 0xF
    halves = ((high << 12) | (low.to(tl.int32) << 4)).to(tl.int16)
    return halves.to(tl.float16, bitcast=True).to(tl.float32)
