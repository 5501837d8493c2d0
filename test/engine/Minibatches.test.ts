import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type * as Adapters from "../../src/engine/Adapters.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Minibatches from "../../src/engine/Minibatches.ts"
import * as PolicyGradient from "../../src/engine/PolicyGradient.ts"

describe("minibatches", () => {
  /** A learner that only takes steps. */
  const trainee = (step: Learner.Learner["step"]): Minibatches.Trainee => ({
    adapter: {} as Adapters.Adapter,
    learner: { step, measure: () => Effect.succeed({ loss: 1 }) },
    state: Learner.initialState(new Float32Array(1))
  })

  const rates = { learningRates: [0.1], weightDecays: [0], maxGradNorm: 1 }

  /** Minibatches of two of six answers, of which those in `bad` (by number) have no finite loss. */
  const learn = (bad: ReadonlyArray<number>, skipped: number) =>
    Effect.gen(function* () {
      let minibatch = 0
      const step = () => Effect.sync(() => ({ loss: bad.includes(minibatch++) ? NaN : 1, grad_norm: 1 }))
      const answers = ["a", "b", "c", "d", "e", "f"].map((id) => ({
        ...{ id, promptIds: [1], tokenIds: [2], logprobs: [-1], reward: Number(id > "c") },
        ...{ ids: [1, 2], from: 1, weights: [0, 1] }
      }))
      const rows = PolicyGradient.grpoRows(answers, 6)
      const how = { seed: 1, iteration: 0, epochs: 1, minibatchSize: 2, microTokens: 64, skipped }
      return yield* Minibatches.learn(trainee(step), rows, PolicyGradient.byToken, rates, how)
    })

  it.effect("stops at the third minibatch in a row without a finite loss, also where the first were another's", () =>
    Effect.gen(function* () {
      expect(yield* learn([0, 2], 0)).toMatchObject({ inARow: 1, stopped: false, means: { loss: 1 } })
      expect((yield* learn([0, 2], 0)).skipped).toHaveLength(2)
      expect(yield* learn([0, 1, 2], 0)).toMatchObject({ inARow: 3, stopped: true })
      // An update has one minibatch unless it is told otherwise: only across updates are there three in a row.
      expect(yield* learn([0], 2)).toMatchObject({ inARow: 3, stopped: true })
      expect((yield* learn([0], 2)).skipped).toHaveLength(1)
      expect(yield* learn([1], 2)).toMatchObject({ inARow: 0, stopped: false })
    })
  )

  it.effect("takes each answer once an epoch, in an order of its own for each epoch and update", () =>
    Effect.gen(function* () {
      const rows = Array.from({ length: 8 }, (_, i) => ({
        ...{ id: `${i}`, ids: [1, 10 + i], from: 1, perToken: { old_logprobs: [-1] }, perSequence: {} }
      }))
      const seen: Array<Array<number>> = []
      const models = trainee((_, batch) =>
        Effect.sync(() => {
          seen.push(batch.flatMap(({ feeds }) => Array.from(feeds["targets"]!.data as BigInt64Array, Number)))
          return { loss: 1, grad_norm: 1 }
        })
      )
      const orders = (iteration: number) =>
        Effect.gen(function* () {
          seen.length = 0
          const how = { seed: 1, iteration, epochs: 2, minibatchSize: 3, microTokens: 64 }
          yield* Minibatches.learn(models, rows, PolicyGradient.byToken, rates, how)
          expect(seen.map(({ length }) => length)).toEqual([3, 3, 2, 3, 3, 2])
          return [seen.slice(0, 3).flat(), seen.slice(3).flat()]
        })
      const [first, second] = yield* orders(0)
      const [next] = yield* orders(1)
      const all = rows.map(({ ids }) => ids[1]!)
      for (const order of [first, second, next]) expect(order!.toSorted((a, b) => a - b)).toEqual(all)
      expect(second).not.toEqual(first)
      expect(next).not.toEqual(first)
    })
  )

  it("put answers to one prompt together where that pays, and no more of them than fit", () => {
    const prompt = (length: number, first: number) => Array.from({ length }, (_, t) => first + t)
    const answers = (prompt: ReadonlyArray<number>, count: number, length = 2) =>
      Array.from({ length: count }, (_, i) => ({
        ids: [...prompt, ...Array.from({ length }, () => i)],
        from: prompt.length
      }))
    const sizes = (rows: ReadonlyArray<{ readonly ids: Array<number>; readonly from: number }>, microTokens: number) =>
      Minibatches.families(rows, microTokens).map((family) => family.length)
    const long = answers(prompt(20, 100), 5)
    // Five answers share 20 tokens and have two each: 30 in all.
    expect(sizes(long, 30)).toEqual([5])
    expect(sizes(long, 29)).toEqual([3, 2])
    expect(sizes(long, 24)).toEqual([2, 2, 1])
    expect(sizes(long, 1)).toEqual([1, 1, 1, 1, 1])
    // A token of 300 is not worth it; and other prompts are other families.
    expect(sizes(answers([7], 2, 300), 1000)).toEqual([1, 1])
    expect(sizes([...long, ...answers(prompt(20, 200), 2)], 1000)).toEqual([5, 2])
  })
})
