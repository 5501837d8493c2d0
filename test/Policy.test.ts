import { assert, describe, it } from "@effect/vitest"
import { learnOptions, updateOptions } from "../src/Policy.ts"

describe("the options of learning", () => {
  it("are the field's where nothing is said, but for where the state is kept", () => {
    const { learningRate, schedule, stateDir } = learnOptions({ stateDir: "state", learningRate: 1e-3 })
    assert.deepStrictEqual([learningRate, schedule, stateDir], [1e-3, "cosine", "state"])
    const { clip, gamma, iteration } = updateOptions({ iteration: 2, iterations: 5, stateDir: "state", gamma: 0.9 })
    assert.deepStrictEqual([clip, gamma, iteration], [0.2, 0.9, 2])
  })
})
