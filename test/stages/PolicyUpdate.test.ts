import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Policy, PolicyUpdate, Response, Reward, Rollout, Sample } from "../../src/index.ts"
import { MockPolicy, MockRewardModel } from "../../src/testing/index.ts"

const options: PolicyUpdate.Options = {
  ...Policy.updateOptions({ iteration: 4, iterations: 10, stateDir: "state" }),
  batchSize: 2
}

describe("PolicyUpdate", () => {
  it.effect("updates the policy with each batch, and with what is left", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ sample: ({ id }) => `answer ${id}` })
      const judge = MockRewardModel.make({ score: 2 })
      const metrics = yield* Stream.make("one", "two", "three", "four", "five").pipe(
        Stream.map((text) => Sample.prompt(text)),
        Rollout.stage({ iteration: 4 }),
        Reward.stage({ clamp: 1 }),
        PolicyUpdate.stage(options),
        Stream.runCollect,
        Effect.provide([policy.layer, judge.layer])
      )
      assert.deepStrictEqual(
        policy.updates.map(({ rollouts }) => rollouts.length),
        [2, 2, 1]
      )
      assert.deepStrictEqual(
        metrics.map(({ iteration, reward }) => [iteration, reward]),
        [
          [4, 1],
          [5, 1],
          [6, 1]
        ]
      )
      const [first] = policy.updates[0]!.rollouts
      assert.strictEqual(first!.tokenIds.length, first!.logprobs.length)
      assert.strictEqual(first!.reward, 1)
    })
  )

  it.each([0, -2, 1.5, NaN, Infinity])("has no batches of %s rewards, and no prompt has so many samples", (n) => {
    const said = (name: string) => `${name} is ${n}; it is a whole number of 1 or more.`
    assert.throws(() => PolicyUpdate.stage({ ...options, batchSize: n }), said("batchSize"))
    assert.throws(() => Rollout.stage({ iteration: 0, samples: n }), said("samples"))
    assert.throws(() => Response.stage({ samples: n }), said("samples"))
  })
})
