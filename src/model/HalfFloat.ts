/**
 * 16-bit floats as bit patterns: IEEE 754 binary16 (F16) and bfloat16 (BF16).
 *
 * Node 22 has no Float16Array, so the conversions are done on the bits.
 */

const bits = new Uint32Array(1)
const float = new Float32Array(bits.buffer)

/** The F16 bits nearest to a 32-bit float, ties to even; too large becomes infinity. */
export const f16Bits = (value: number): number => {
  float[0] = value
  const word = bits[0]!
  const sign = (word >>> 16) & 0x8000
  const magnitude = word & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  // 65520 is half-way between the largest F16, 65504, and what would come next: from there on it rounds to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  // Below 2^-14 an F16 is a whole multiple of 2^-24, and the product is exact.
  if (magnitude < 0x38800000) return sign | roundToEven(Math.abs(float[0]!) * 2 ** 24)
  // Exponent bias 127 becomes 15 and 23 bits of mantissa 10; a carry out of the mantissa raises the exponent, as it should.
  const shifted = magnitude - 0x38000000
  return sign | ((shifted + 0xfff + ((shifted >>> 13) & 1)) >>> 13)
}

/** The integer nearest to `x` >= 0, ties to even. */
const roundToEven = (x: number): number => {
  const floor = Math.floor(x)
  const rest = x - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
}

/** The value of F16 bits; every one is exact in 32 bits. */
export const f16Value = (half: number): number => {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >>> 10) & 0x1f
  const mantissa = half & 0x3ff
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN
  return sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

/** 32-bit floats as F16 bits, each rounded to nearest even. */
export const toF16 = (values: Float32Array): Uint16Array => Uint16Array.from(values, f16Bits)

/** Every F16 by its bits, made when first needed: a table is ten times faster than the arithmetic. */
let table: Float32Array | undefined

/** F16 bits as 32-bit floats, exactly. */
export const fromF16 = (halves: Uint16Array): Float32Array => {
  const values = (table ??= Float32Array.from({ length: 65536 }, (_, half) => f16Value(half)))
  const out = new Float32Array(halves.length)
  for (let i = 0; i < halves.length; i++) out[i] = values[halves[i]!]!
  return out
}

/** 32-bit floats as BF16 bits, each rounded to nearest even. */
export const toBf16 = (values: Float32Array): Uint16Array => {
  const out = new Uint16Array(values.length)
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < out.length; i++) {
    const word = words[i]!
    // Rounding would carry a NaN's mantissa into its sign.
    out[i] = Number.isNaN(values[i]!) ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  }
  return out
}

/** BF16 bits as 32-bit floats, exactly: a BF16 is the upper half of a 32-bit float. */
export const fromBf16 = (halves: Uint16Array): Float32Array => {
  const out = new Float32Array(halves.length)
  const words = new Uint32Array(out.buffer)
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16
  return out
}
