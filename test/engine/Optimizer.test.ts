/** The optimizer against PyTorch's: `test/fixtures/objectives.json` holds its trajectories. */
import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Optimizer from "../../src/engine/Optimizer.ts"
import golden from "../fixtures/objectives.json" with { type: "json" }
import * as Plain from "../onnx/Plain.ts"

const vectorsOf = (parameters: ReadonlyArray<number>): Optimizer.Vectors => ({
  parameters: Float32Array.from(parameters),
  m: new Float32Array(parameters.length),
  v: new Float32Array(parameters.length)
})

describe("AdamW", () => {
  for (const { inputs, trajectory } of [golden["adamw_wd0.0"], golden["adamw_wd0.1"]]) {
    it(`takes PyTorch's steps with weight decay ${inputs.weight_decay}`, () => {
      const options = { beta1: inputs.betas[0]!, beta2: inputs.betas[1]!, epsilon: inputs.eps }
      const vectors = vectorsOf(inputs.w.flat())
      const end = vectors.parameters.length
      const range = { start: 0, end, learningRate: inputs.lr, weightDecay: inputs.weight_decay }
      for (const [i, expected] of trajectory.entries()) {
        Optimizer.adamw(options, vectors, Float32Array.from(inputs.grads[i]!.flat()), 1, i + 1, range)
        const after = { sizes: [end], data: Array.from(vectors.parameters) }
        expect(Plain.distance(after, { sizes: [end], data: expected.flat() })).toBeLessThan(1e-6)
      }
    })
  }

  it("changes its range alone, by the clipped gradient", () => {
    const [whole, part] = [vectorsOf([1, 2, 3, 4]), vectorsOf([1, 2, 3, 4])]
    const range = { start: 1, end: 3, learningRate: 0.1, weightDecay: 0.5 }
    Optimizer.adamw(Optimizer.defaults, whole, Float32Array.of(9, 0.5, -0.25, 9), 1, 1, range)
    Optimizer.adamw(Optimizer.defaults, part, Float32Array.of(9, 2, -1, 9), 0.25, 1, range)
    expect(part).toEqual(whole)
    expect([whole.parameters[0], whole.parameters[3], whole.m[0], whole.v[3]]).toEqual([1, 4, 0, 0])
    // The first step is as long as the rate, with the decay beside it.
    expect(whole.parameters[1]).toBeCloseTo(2 - 0.1 * (0.5 * 2 + 1), 6)
    expect(whole.parameters[2]).toBeCloseTo(3 - 0.1 * (0.5 * 3 - 1), 6)
  })

  it("never makes a number infinite where its step is bounded, whatever the gradients are", () => {
    const exponent = fc.double({ min: -25, max: 18, noNaN: true })
    const signed = fc.tuple(fc.boolean(), exponent).map(([minus, e]) => (minus ? -1 : 1) * 10 ** e)
    const rates = fc.record({
      learningRate: fc.double({ min: -9, max: 38.5, noNaN: true }).map((e) => 10 ** e),
      weightDecay: fc.double({ min: 0, max: 10, noNaN: true })
    })
    const start = fc.double({ min: -3e38, max: 3e38, noNaN: true })
    fc.assert(
      fc.property(fc.array(signed, { minLength: 1, maxLength: 40 }), rates, start, (gradients, rate, x) => {
        const vectors = vectorsOf([x])
        const range = { start: 0, end: 1, ...rate }
        for (const [i, g] of gradients.entries()) {
          if (!Optimizer.isBounded(vectors.parameters, range)) return
          Optimizer.adamw(Optimizer.defaults, vectors, Float32Array.of(g), 1, i + 1, range)
          expect(Number.isFinite(vectors.parameters[0])).toBe(true)
        }
      }),
      { numRuns: 300 }
    )
    expect(Optimizer.isBounded(Float32Array.of(1), { start: 0, end: 1, learningRate: 1e38, weightDecay: 0 })).toBe(true)
    expect(Optimizer.isBounded(Float32Array.of(1), { start: 0, end: 1, learningRate: 1.2e38, weightDecay: 0 })).toBe(
      false
    )
    expect(Optimizer.isBounded(Float32Array.of(3e38), { start: 0, end: 1, learningRate: 0.1, weightDecay: 9 })).toBe(
      false
    )
    expect(Optimizer.isBounded(Float32Array.of(NaN), { start: 0, end: 1, learningRate: 0.1, weightDecay: 0 })).toBe(
      false
    )
  })
})

describe("the norm of a gradient", () => {
  it("is exact where there are millions of numbers", () => {
    const gradient = new Float32Array(2 ** 24).fill(1e-3)
    expect(Optimizer.norm(gradient) / (Math.fround(1e-3) * 2 ** 12)).toBeCloseTo(1, 9)
  })
})

describe("clipFactor", () => {
  it("scales long gradients to the norm and leaves short ones", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        (norm, most) => {
          const factor = Optimizer.clipFactor(norm, most)
          expect(factor * norm).toBeLessThanOrEqual(most)
          expect(factor).toBe(norm + 1e-6 <= most ? 1 : most / (norm + 1e-6))
        }
      )
    )
  })
})

describe("schedules", () => {
  const schedule = (kind: Optimizer.Schedule["kind"], floor = 0) => ({ kind, steps: 20, warmup: 5, floor })

  it("are those of transformers", () => {
    for (const [kind, { output }] of [
      ["cosine", golden.schedule_cosine],
      ["linear", golden.schedule_linear]
    ] as const) {
      expect(output).toHaveLength(20)
      output.forEach((expected, step) => {
        expect(Math.abs(Optimizer.multiplier(schedule(kind), step) - expected)).toBeLessThan(1e-7)
      })
    }
  })

  it("rise to 1 with the warm-up and end at their floor", () => {
    for (const kind of ["linear", "cosine"] as const) {
      const of = schedule(kind, 0.1)
      expect(Optimizer.multiplier(of, 0)).toBe(0)
      expect(Optimizer.multiplier(of, 5)).toBe(1)
      expect(Optimizer.multiplier(of, 20)).toBeCloseTo(0.1, 12)
      expect(Optimizer.multiplier(of, 100)).toBeCloseTo(0.1, 12)
    }
    expect(Optimizer.multiplier(schedule("constant", 0.1), 20)).toBe(1)
  })

  it("begin at the peak without a warm-up, as in transformers", () => {
    const rates = (kind: Optimizer.Schedule["kind"], steps: number) =>
      Array.from({ length: steps }, (_, i) => Optimizer.stepMultiplier({ kind, steps, warmup: 0, floor: 0 }, i))
    expect(rates("linear", 4)).toEqual([1, 0.75, 0.5, 0.25])
    expect(rates("cosine", 2)[0]).toBe(1)
    expect(rates("cosine", 2)[1]).toBeCloseTo(0.5, 12)
    expect(rates("linear", 1)).toEqual([1])
  })

  it("give every optimizer step a rate above zero and at most the peak", () => {
    const schedules = fc.record({
      kind: fc.constantFrom("constant", "linear", "cosine"),
      steps: fc.integer({ min: 1, max: 200 }),
      warmup: fc.integer({ min: 0, max: 250 }),
      floor: fc.double({ min: 0, max: 1, noNaN: true })
    })
    fc.assert(
      fc.property(schedules, (of) => {
        const rates = Array.from({ length: of.steps }, (_, i) => Optimizer.stepMultiplier(of, i))
        expect(Math.min(...rates)).toBeGreaterThan(0)
        expect(Math.max(...rates)).toBeLessThanOrEqual(1 + 1e-12)
        // Up during the warm-up, never up after it.
        rates.slice(1).forEach((rate, i) => {
          if (i + 2 < of.warmup) expect(rate).toBeGreaterThan(rates[i]!)
          else if (i + 1 >= of.warmup) expect(rate).toBeLessThanOrEqual(rates[i]!)
        })
      })
    )
  })
})
