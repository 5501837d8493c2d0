import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Kl from "../../src/engine/Kl.ts"
import * as Random from "../../src/Random.ts"
import golden from "../fixtures/objectives.json" with { type: "json" }

const mask = golden.mask.flat()
const unmasked = (grid: ReadonlyArray<ReadonlyArray<number>>) => grid.flat().filter((_, i) => mask[i] === 1)

describe("estimates of the KL divergence", () => {
  for (const name of ["k1", "k2", "k3"] as const) {
    it(`${name} is that of the golden values`, () => {
      const policy = unmasked(golden.kl_estimators.inputs.policy)
      const reference = unmasked(golden.kl_estimators.inputs.reference)
      expect(Kl.total(name, policy, reference) / policy.length).toBeCloseTo(golden.kl_estimators[name], 5)
    })
  }

  it("k2 and k3 are never negative", () => {
    fc.assert(
      fc.property(fc.double({ min: -20, max: 20, noNaN: true }), (d) => {
        expect(Kl.estimators.k2(d)).toBeGreaterThanOrEqual(0)
        expect(Kl.estimators.k3(d)).toBeGreaterThanOrEqual(0)
      })
    )
  })
})

describe("the coefficient of the KL term", () => {
  const adaptive = { _tag: "adaptive", target: 6, horizon: 10_000 } as const

  it("stays, or follows its target", () => {
    expect(Kl.next({ _tag: "fixed" }, 0.05, 100, 64)).toBe(0.05)
    expect(Kl.next(adaptive, 0.05, 6, 64)).toBe(0.05)
    expect(Kl.next(adaptive, 0.05, 60, 500)).toBeCloseTo(0.05 * 1.01, 12)
    expect(Kl.next(adaptive, 0.05, 0, 500)).toBeCloseTo(0.05 * 0.99, 12)
    expect(Kl.next(adaptive, 0.05, 6.6, 500)).toBeCloseTo(0.05 * 1.005, 12)
  })

  it("never changes its sign, nor becomes no number", () => {
    expect(Kl.next({ ...adaptive, horizon: 10 }, 0.05, 0, 64)).toBeCloseTo(0.05 * 0.8, 12)
    expect(Kl.next(adaptive, 0.05, Number.NaN, 64)).toBe(0.05)
    expect(Kl.next({ ...adaptive, target: 0 }, 0.05, 0, 64)).toBe(0.05)
  })
})

describe("a negative KL", () => {
  const random = Random.make(1, "kl")
  const around = (mean: number, deviation = 0.1) => Array.from({ length: 64 }, () => mean + deviation * random.normal())

  it("is diagnosed, and told from chance", () => {
    expect(Kl.diagnose([], 0, 0)).toBeUndefined()
    expect(Kl.diagnose(around(0.5), 8, 0)).toBeUndefined()
    expect(Kl.diagnose([-0.3, 0.2, 0.1, -0.1], 8, 0)).toBeUndefined()
    expect(Kl.diagnose(around(-1), 8, 0)).toContain("temperature 1")
    expect(Kl.diagnose(around(-1), 8, 0.3)).toContain("were not sampled from the policy that learns")
  })

  it("is told from the chance of few answers, which may all be a little likelier under the reference", () => {
    expect(Kl.diagnose([-0.002, -0.011, -0.006, -0.005, -0.012], 15, 0)).toBeUndefined()
    // The likeliest answer, five times, of a policy that has moved a little of it to others.
    expect(Kl.diagnose(Array(5).fill(Math.log(0.8 / 0.9)), 1, 0)).toBeUndefined()
    expect(Kl.diagnose([-1.9, -2.2, -2.1, -2, -1.8], 15, 0)).toContain("temperature 1")
  })

  it("is none where chance gives it once in twenty: answers that are twenty times as likely under the reference", () => {
    expect(Kl.diagnose([-Math.log(19.9)], 1, 0)).toBeUndefined()
    expect(Kl.diagnose([-Math.log(20.1)], 1, 0)).toContain("temperature 1")
    // All together, not each.
    expect(Kl.diagnose([-Math.log(4.4), -Math.log(4.5)], 1, 0)).toBeUndefined()
    expect(Kl.diagnose([-Math.log(4.5), -Math.log(4.5)], 1, 0)).toContain("temperature 1")
  })

  it("is none within two standard errors of zero", () => {
    // A mean of -2 with the standard error d / √3.
    const apart = (d: number) => [-2 - d, -2 + d, -2 - d, -2 + d]
    expect(Kl.diagnose(apart(1.01 * Math.sqrt(3)), 1, 0)).toBeUndefined()
    expect(Kl.diagnose(apart(0.99 * Math.sqrt(3)), 1, 0)).toContain("-2.00 nats per answer")
  })

  it("is told from rounding, which longer answers have more of", () => {
    // A policy that has not moved: all answers are off by the same few units in the last place.
    expect(Kl.diagnose(around(-5e-4, 1e-6), 8, 1e-6)).toBeUndefined()
    expect(Kl.diagnose(around(-0.05, 1e-3), 1024, 1e-6)).toBeUndefined()
    expect(Kl.diagnose(around(-0.05, 1e-3), 8, 1e-6)).toContain("-0.0")
  })

  it("is told from one that is no number", () => {
    expect(Kl.diagnose([0.1, NaN], 8, 0)).toContain("The KL to the reference is NaN: a log-probability")
    expect(Kl.diagnose([0.1, Infinity], 8, 0)).toContain("is not finite")
  })
})
