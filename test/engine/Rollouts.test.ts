import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Rollouts from "../../src/engine/Rollouts.ts"

describe("an answer", () => {
  it("is learnt from with every token, and with none of its prompt", () => {
    const rollout = { id: "a", promptIds: [7, 8], tokenIds: [0, 1], logprobs: [-1, -1], reward: 1 }
    expect(Rollouts.answersOf([rollout])).toEqual([{ ...rollout, ids: [7, 8, 0, 1], from: 2, weights: [0, 0, 1, 1] }])
  })

  it("says why nothing can be learnt from answers", () => {
    const answer = { id: "a", logprobs: [-1, -2], reward: 0.5 }
    expect(Rollouts.unlearnable([answer])).toBeUndefined()
    expect(Rollouts.unlearnable([answer, { ...answer, id: "b", logprobs: [-1, NaN] }])).toBe(
      "the policy's log-probability of a token of the answer b is NaN"
    )
    expect(Rollouts.unlearnable([{ ...answer, reward: Infinity }])).toBe("the reward of the answer a is Infinity")
  })

  it.effect("at a temperature has the log-probabilities that it was sampled with", () =>
    Effect.gen(function* () {
      const rollout = { id: "a", promptIds: [1], tokenIds: [2, 3], logprobs: [-1, -2], reward: 0 }
      const answers = Rollouts.answersOf([rollout])
      const forward = { logprobs: () => Effect.succeed([[-3, -4]]) }
      const models = { adapter: undefined, forward } as unknown as Rollouts.Models
      expect(yield* Rollouts.atTemperature(models, answers, 1)).toBe(answers)
      expect(yield* Rollouts.atTemperature(models, answers, 0.5)).toEqual([{ ...answers[0], logprobs: [-3, -4] }])
    })
  )
})
