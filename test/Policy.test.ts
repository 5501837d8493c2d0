import { assert, describe, it } from "@effect/vitest"
import { LearnOptions, UpdateOptions } from "../src/Policy.ts"

describe("the options of learning", () => {
  it("are the field's where nothing is said, but for where the state is kept", () => {
    const { learningRate, schedule, stateDir } = LearnOptions.make({ stateDir: "state", learningRate: 1e-3 })
    assert.deepStrictEqual([learningRate, schedule, stateDir], [1e-3, "cosine", "state"])
    const { clip, gamma, iteration, temperature } = UpdateOptions.make({
      iteration: 2,
      iterations: 5,
      stateDir: "state"
    })
    assert.deepStrictEqual([clip, gamma, iteration, temperature], [0.2, 1, 2, undefined])
  })

  it("are checked when they are made", () => {
    assert.throws(() => LearnOptions.make({ stateDir: "state", floor: 2 }), /floor/)
    assert.throws(() => UpdateOptions.make({ iteration: -1, iterations: 5, stateDir: "state" }), /iteration/)
  })
})
