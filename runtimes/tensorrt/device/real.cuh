// Numbers of the three precisions that plugins read and write. All arithmetic is in float.
#pragma once

#include "block.cuh"

namespace stts {

struct Half {
  unsigned short bits;
};

struct Brain {  // bfloat16: the upper half of a float
  unsigned short bits;
};

// As many as 16 bytes hold, moved at once; or one, where memory is not aligned to that.
template <class Real, int count>
struct alignas(sizeof(Real) * count) Pack {
  Real value[count];
};

STTS_DEVICE float float_of_bits(unsigned bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
#endif
}

STTS_DEVICE unsigned bits_of_float(float number) {
#ifdef __CUDACC__
  return __float_as_uint(number);
#else
  unsigned bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
#endif
}

STTS_DEVICE float to_float(float number) { return number; }

STTS_DEVICE float to_float(Brain number) { return float_of_bits(static_cast<unsigned>(number.bits) << 16); }

STTS_DEVICE float to_float(Half number) {
#ifdef __CUDACC__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(number.bits));
  return wide;
#else
  unsigned const sign = static_cast<unsigned>(number.bits & 0x8000) << 16;
  unsigned const exponent = number.bits >> 10 & 31, fraction = number.bits & 1023;
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  float const denormal = static_cast<float>(fraction) * 0x1p-24f;
  return sign ? -denormal : denormal;
#endif
}

// Rounded to nearest, to even between two.
template <class Real>
STTS_DEVICE Real from_float(float number);

template <>
STTS_DEVICE float from_float<float>(float number) {
  return number;
}

template <>
STTS_DEVICE Brain from_float<Brain>(float number) {
  unsigned const bits = bits_of_float(number);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<unsigned short>(bits >> 16 | 0x40)};
  return {static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

template <>
STTS_DEVICE Half from_float<Half>(float number) {
#ifdef __CUDACC__
  Half narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(number));
  return narrow;
#else
  unsigned const bits = bits_of_float(number), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffffu;
  auto const made = [&](unsigned rest) { return Half{static_cast<unsigned short>(sign | rest)}; };
  if (size > 0x7f800000u) return made(0x7e00);
  if (size >= 0x477ff000u) return made(0x7c00);  // 65520 and above round to infinity
  if (size < 0x38800000u) {                      // below the least normal one: a multiple of 2^-24
    // Adding it to a float whose last bit is 2^-24 rounds it there as wanted.
    return made(bits_of_float(float_of_bits(size) + 0.5f) - bits_of_float(0.5f));
  }
  return made((size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13);
#endif
}

}  // namespace stts
