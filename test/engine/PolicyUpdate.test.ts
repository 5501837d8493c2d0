import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Learner from "../../src/engine/Learner.ts"
import type * as PolicyGradient from "../../src/engine/PolicyGradient.ts"
import * as PolicyUpdate from "../../src/engine/PolicyUpdate.ts"
import type * as Rollouts from "../../src/engine/Rollouts.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import { updateOptions } from "../../src/Policy.ts"
import type { UpdateOptions } from "../../src/Policy.ts"

const sandbox = new URL("../../assets/sandbox", import.meta.url).pathname

const options = (iteration: number): UpdateOptions =>
  updateOptions({ stateDir: "unused", iteration, iterations: 24, floor: 0.3, epochs: 1, minibatchSize: 1 })

describe("an update of a policy", () => {
  it("warms its learning rate up and lets it fall to the floor", () => {
    const at = (iteration: number) => PolicyUpdate.rateFactor({ ...options(iteration), warmupIterations: 3 })
    expect([0, 1, 2, 3].map(at)).toEqual([0.25, 0.5, 0.75, 1])
    expect(at(23)).toBeCloseTo(0.3, 12)
    expect(at(13)).toBeCloseTo(0.65, 12)
  })

  it.effect("that stops says so, and one learns nothing from an empty answer", () =>
    Effect.gen(function* () {
      const begun = Float32Array.of(1)
      const state = Learner.initialState(begun)
      const config = { rank: 1, alpha: 1, targets: [] }
      const maps = { config, taskType: "CAUSAL_LM", tensors: new Map(), scales: new Map() } as const
      const adapter = Adapters.fromLora(maps, (yield* Checkpoint.open(sandbox)).config, { value: true })
      const minusOne = (_: unknown, answers: ReadonlyArray<Rollouts.Answer>) =>
        Effect.succeed(answers.map(({ logprobs }) => logprobs.map(() => -1)))
      const forward = { logprobs: minusOne, values: minusOne }
      let good = 1
      const step = () =>
        Effect.sync(() => {
          if (good-- <= 0) return { loss: NaN, grad_norm: NaN }
          Object.assign(state, { parameters: Float32Array.of(9), step: state.step + 1 })
          return { loss: 1, grad_norm: 1 }
        })
      const learner = { step }
      const models = { adapter, reference: undefined, forward, learner, state } as unknown as PolicyGradient.Models
      const rollouts = ["a", "b", "c", "d"].map((id) => ({
        ...{ id, promptIds: [1], tokenIds: [2], logprobs: [-1], reward: Number(id > "b") }
      }))
      const how = options(0)
      const error = yield* Effect.flip(PolicyUpdate.make(models, rollouts, how))
      expect(error.message).toContain("3 minibatches in a row")

      good = 4
      const empty = { id: "empty", promptIds: [1], tokenIds: [], logprobs: [], reward: 100 }
      const metrics = yield* PolicyUpdate.make(models, [...rollouts, empty], how)
      expect([metrics.reward, metrics.tokens, state.step]).toEqual([0.5, 4, 5])
    })
  )
})
