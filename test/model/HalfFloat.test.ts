import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as HalfFloat from "../../src/model/HalfFloat.ts"

/** Rounding by search: the nearest of all F16 values, ties to the even bit pattern. */
const finite = Array.from({ length: 0x7c00 }, (_, half) => HalfFloat.f16Value(half))
const nearest = (x: number): number => {
  const magnitude = Math.abs(x)
  if (magnitude >= 65520) return Infinity
  let low = 0
  let high = finite.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (finite[middle]! <= magnitude) low = middle
    else high = middle - 1
  }
  const below = magnitude - finite[low]!
  const above = (finite[low + 1] ?? 65536) - magnitude
  return below < above || (below === above && low % 2 === 0) ? low : low + 1
}

describe("HalfFloat", () => {
  it("gives every F16 back", () => {
    for (let half = 0; half < 65536; half++) {
      const value = HalfFloat.f16Value(half)
      if (Number.isNaN(value)) expect(HalfFloat.f16Value(HalfFloat.f16Bits(value))).toBeNaN()
      else expect(HalfFloat.f16Bits(value)).toBe(half)
    }
  })

  it("knows the landmarks of the format", () => {
    expect(HalfFloat.f16Bits(1)).toBe(0x3c00)
    expect(HalfFloat.f16Bits(-2)).toBe(0xc000)
    expect(HalfFloat.f16Bits(65504)).toBe(0x7bff)
    expect(HalfFloat.f16Bits(65519.996)).toBe(0x7bff)
    expect(HalfFloat.f16Bits(65520)).toBe(0x7c00)
    expect(HalfFloat.f16Bits(2 ** -14)).toBe(0x0400)
    expect(HalfFloat.f16Bits(2 ** -24)).toBe(0x0001)
    expect(HalfFloat.f16Bits(2 ** -25)).toBe(0x0000)
    expect(HalfFloat.f16Bits(-0)).toBe(0x8000)
  })

  it("rounds to the nearest, ties to even, subnormals included", () => {
    const anyBits = fc
      .integer({ min: 0, max: 0xffffffff })
      .map((word) => new Float32Array(Uint32Array.of(word).buffer)[0]!)
    // Between two neighbours, where ties and subnormals are.
    const between = fc
      .tuple(fc.nat(0x7bfe), fc.constantFrom(0.25, 0.5, 0.5, 0.75))
      .map(([half, part]) => Math.fround(finite[half]! + part * (finite[half + 1]! - finite[half]!)))
    fc.assert(
      fc.property(fc.oneof(anyBits, between, fc.float()), (x) => {
        fc.pre(!Number.isNaN(x))
        const wanted = nearest(x)
        expect(HalfFloat.f16Bits(x) & 0x7fff).toBe(wanted === Infinity ? 0x7c00 : wanted)
      }),
      { numRuns: 5000 }
    )
  })

  // Node 24 has the conversion built in, Node 22 does not.
  const builtIn = (Math as { f16round?: (x: number) => number }).f16round
  it.skipIf(builtIn === undefined)("agrees with Math.f16round", () => {
    fc.assert(
      fc.property(fc.float(), (x) => {
        expect(HalfFloat.f16Value(HalfFloat.f16Bits(x))).toBe(builtIn!(x))
      }),
      { numRuns: 5000 }
    )
  })

  it("reads BF16 as the upper half of a float", () => {
    expect([...HalfFloat.fromBf16(Uint16Array.of(0x3f80, 0xc000, 0x0000))]).toEqual([1, -2, 0])
  })
})
