import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import fs from "node:fs"
import * as Advantages from "../../src/engine/Advantages.ts"
import * as Golden from "./golden.ts"

const fixture = JSON.parse(fs.readFileSync(new URL("../fixtures/objectives.json", import.meta.url), "utf8"))
const lengths: Array<number> = fixture.mask.map((row: Array<number>) => row.filter((m) => m === 1).length)

describe("advantages", () => {
  for (const name of ["gae_1.0_0.95", "gae_0.99_0.9"]) {
    it(`are those of ${name}`, () => {
      const { advantages, inputs, returns } = fixture[name]
      lengths.forEach((length, b) => {
        const ours = Advantages.gae(
          inputs.rewards[b].slice(0, length),
          inputs.values[b].slice(0, length),
          inputs.gamma,
          inputs.lambda
        )
        expect(Golden.distance(ours.advantages, advantages[b].slice(0, length))).toBeLessThan(1e-5)
        expect(Golden.distance(ours.returns, returns[b].slice(0, length))).toBeLessThan(1e-5)
      })
    })
  }

  it("have mean 0 and deviation 1 once whitened, over all rows together", () => {
    const { rows, std } = Advantages.whiten([[1, 2, 3], [10], [-4, 0.5]])
    const all = rows.flatMap((row) => Array.from(row))
    const mean = all.reduce((a, b) => a + b, 0) / all.length
    expect(mean).toBeCloseTo(0, 10)
    expect(all.reduce((sum, x) => sum + x * x, 0) / (all.length - 1)).toBeCloseTo(1, 6)
    expect(std).toBeGreaterThan(0)
  })

  it("come from rewards that charge each token for leaving the reference and pay the last one", () => {
    const rewards = Advantages.shapedRewards([-1, -2, -3], [-1.5, -2, -2], 4, 0.1)
    expect(Golden.distance(rewards, [-0.05, 0, 4.1])).toBeLessThan(1e-12)
  })

  it("relative to a group of answers are those of the golden values", () => {
    const { inputs, output } = fixture["advantages_group"]
    expect(Golden.distance(Advantages.group(inputs.rewards, inputs.group), output)).toBeLessThan(1e-5)
    expect(Golden.distance(Advantages.group([1, 3], 2, false), [-1, 1])).toBe(0)
  })

  it("against the others of a group are those of the golden values", () => {
    const { inputs, output } = fixture["advantages_rloo"]
    expect(Golden.distance(Advantages.leaveOneOut(inputs.rewards, inputs.group), output)).toBeLessThan(1e-5)
    expect(() => Advantages.leaveOneOut([1, 2], 1)).toThrow("two or more")
    expect(() => Advantages.group([1, 2, 3], 2)).toThrow("no groups of 2")
  })

  it("sum to zero in every group, whichever way they are made", () => {
    const rewards = fc.array(fc.double({ min: -5, max: 5, noNaN: true }), { minLength: 4, maxLength: 4 })
    fc.assert(
      fc.property(rewards, (of) => {
        for (const advantages of [Advantages.group(of, 4), Advantages.leaveOneOut(of, 4)]) {
          expect(Math.abs(advantages.reduce((a, b) => a + b, 0))).toBeLessThan(1e-6)
        }
      })
    )
  })
})
