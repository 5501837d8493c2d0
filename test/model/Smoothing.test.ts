import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Smoothing from "../../src/model/Smoothing.ts"

describe("Smoothing", () => {
  it("shares the largest magnitudes between activations and weights, in powers of two", () => {
    // Two maps of three channels: the largest weights are 1, 4 and 0.25.
    const weights = [Float32Array.of(-1, 0.5, 0.1, 0.5, 4, 0.2), Float32Array.of(0.2, 1, -0.25)]
    // 32^0.6 / 1 = 8; 1 / 4^0.4 = 0.57, near 1/2; 9^0.6 / 0.25^0.4 = 6.5, nearer to 8 than to 4.
    expect([...Smoothing.factors(Float32Array.of(32, 1, 9), weights)]).toEqual([8, 0.5, 8])
  })

  it("leaves every map what it is: what divides its input multiplies its columns", () => {
    const w = Float32Array.of(1, -2, 3, 4)
    Smoothing.apply(w, Float32Array.of(2, 0.25))
    expect([...w]).toEqual([2, -0.5, 6, 1])
  })

  it("makes the same of a map whose channels were scaled against its input", () => {
    const magnitude = fc.float({ min: Math.fround(0.1), max: 10, noNaN: true })
    fc.assert(
      fc.property(
        fc.array(fc.tuple(magnitude, magnitude, fc.integer({ min: -3, max: 3 })), { minLength: 1, maxLength: 8 }),
        (channels) => {
          const x = Float32Array.from(channels, ([x]) => x)
          const w = Float32Array.from(channels, ([, w]) => w)
          const by = channels.map(([, , exponent]) => 2 ** exponent)
          const plain = Smoothing.factors(x, [w])
          const scaled = Smoothing.factors(
            x.map((x, j) => x * by[j]!),
            [w.map((w, j) => w / by[j]!)]
          )
          expect([...scaled]).toEqual([...plain].map((s, j) => s * by[j]!))
        }
      )
    )
  })

  it("is finite for channels through which nothing passes, and for activations that are not", () => {
    const factors = (x: ReadonlyArray<number>, w: ReadonlyArray<number>) => [
      ...Smoothing.factors(Float32Array.from(x), [Float32Array.from(w)])
    ]
    expect(factors([0, 1, 0], [1, 0, 0]).every((s) => Number.isFinite(s) && s > 0)).toBe(true)
    expect(factors([0, 0], [1, 4])).toEqual([1, 0.5])
    for (const broken of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(factors([broken, 1], [1, 4]).every((s) => Number.isFinite(s) && s > 0)).toBe(true)
    }
    expect(factors([1, 1], [0, 0])).toEqual([1, 1])
  })
})
