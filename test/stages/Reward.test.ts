import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Reward, Rollout, Sample, Sampling } from "../../src/index.ts"
import { MockPolicy, MockRewardModel } from "../../src/testing/index.ts"
import { prompt } from "./Fixture.ts"

describe("Rollout", () => {
  it.effect("keeps the tokens and log-probabilities that an update needs", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ sample: " ok", model: "policy" })
      const [rollout] = yield* Stream.make(prompt).pipe(
        Rollout.stage({ iteration: 3, seed: 5, maxTokens: 8 }),
        Stream.runCollect,
        Effect.provide(policy.layer)
      )
      assert.strictEqual(rollout!.text, "ok")
      assert.strictEqual(rollout!.model, "policy")
      assert.strictEqual(rollout!.tokenIds.length, rollout!.logprobs.length)
      assert.deepInclude(policy.samples[0], { seed: 5, maxTokens: 8, temperature: 1 })
      assert.strictEqual(policy.samples[0]!.context, "\n\nHuman: How do I annoy my neighbour?\n\nAssistant:")
    })
  )

  it.effect("passes every setting of the sampling on", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make()
      yield* Rollout.one(prompt, { iteration: 0, topP: 0.9 }).pipe(
        Sampling.provide({ topK: 40, temperature: 0.8 }),
        Effect.provide(policy.layer)
      )
      assert.deepInclude(policy.samples[0], { topP: 0.9, topK: 40, temperature: 0.8 })
    })
  )

  it.effect("draws anew in each iteration", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make()
      yield* Rollout.one(prompt, { iteration: 0 }).pipe(Effect.provide(policy.layer))
      yield* Rollout.one(prompt, { iteration: 1 }).pipe(Effect.provide(policy.layer))
      assert.notStrictEqual(policy.samples[0]!.id, policy.samples[1]!.id)
    })
  )
})

describe("Reward", () => {
  const rollout = (text: string, finish: "stop" | "length" = "stop") =>
    Sample.rollout({
      prompt,
      iteration: 0,
      index: 0,
      text,
      promptIds: [1],
      tokenIds: [2, 0],
      logprobs: [-1, -1],
      finish,
      model: "policy"
    })

  it.effect("is the standardised score of the answer", () =>
    Effect.gen(function* () {
      const judge = MockRewardModel.make({ score: ({ completion }) => (completion === " Talk." ? 3 : -1) })
      const rewards = yield* Stream.make(rollout("Talk."), rollout("Drums.")).pipe(
        Reward.stage({ mean: 1, std: 2 }),
        Stream.runCollect,
        Effect.provide(judge.layer)
      )
      assert.deepStrictEqual(
        rewards.map(({ score, reward }) => [score, reward]),
        [
          [3, 1],
          [-1, -1]
        ]
      )
      assert.strictEqual(judge.scores[0]!.context, "\n\nHuman: How do I annoy my neighbour?\n\nAssistant:")
    })
  )

  it.effect("is clamped, and less by the penalty where the answer has no end", () =>
    Effect.gen(function* () {
      const judge = MockRewardModel.make({ score: 100 })
      const options = { clamp: 5, missingStopPenalty: 3 }
      const ended = yield* Reward.one(rollout("Talk."), options).pipe(Effect.provide(judge.layer))
      const endless = yield* Reward.one(rollout("Talk.", "length"), options).pipe(Effect.provide(judge.layer))
      assert.deepStrictEqual([ended.reward, endless.reward], [5, 2])
      assert.strictEqual(endless.score, 100)
    })
  )

  it("takes its scale from scores, also from equal ones", () => {
    assert.deepStrictEqual(Reward.scale([1, 3]), { mean: 2, std: 1 })
    assert.deepStrictEqual(Reward.scale([4, 4]), { mean: 4, std: 1 })
    // Three times a tenth is no three tenths in binary, and what they seem to differ by is no scale.
    assert.deepStrictEqual(Reward.scale([0.1, 0.1, 0.1]), { mean: 0.1, std: 1 })
    assert.deepStrictEqual(Reward.scale([]), { mean: 0, std: 1 })
  })
})
