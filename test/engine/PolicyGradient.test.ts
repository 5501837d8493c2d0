import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Forward from "../../src/engine/Forward.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Minibatches from "../../src/engine/Minibatches.ts"
import * as PolicyGradient from "../../src/engine/PolicyGradient.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import type { UpdateOptions } from "../../src/Policy.ts"

const sandbox = new URL("../../assets/sandbox", import.meta.url).pathname

const iterations = 12

const options = (iteration: number): UpdateOptions => ({
  seed: 5,
  iteration,
  iterations,
  epochs: 2,
  minibatchSize: 32,
  microTokens: 2048,
  learningRate: 3e-3,
  valueLearningRate: 1e-2,
  warmupIterations: 0,
  floor: 0.3,
  klCoefficient: 0.01,
  clip: 0.2,
  valueClip: 0.2,
  valueCoefficient: 0.1,
  gamma: 1,
  lambda: 0.95,
  maxGradNorm: 1,
  stateDir: "unused"
})

const objectives = {
  ppo: Objective.ppo(options(0)),
  grpo: Objective.grpo({ clip: 0.2, beta: 0.01 }),
  rloo: Objective.rloo({ clip: 0.2 })
}

/** Answers to a prompt that are compared with each other. */
const samples = 8

describe("a bandit", () => {
  for (const kind of ["ppo", "grpo", "rloo"] as const) {
    it.live(`is learnt by ${kind}: its reward rises from under 0.3 to over 0.9`, () =>
      Effect.gen(function* () {
        const checkpoint = yield* Checkpoint.open(sandbox)
        const tokenizer = yield* Tokenizer.load(sandbox)
        // The sandbox model opens its answers in four ways, about equally often; one of them is to win.
        const promptIds = tokenizer.encode("<|endoftext|>\n\nHuman: how do i bake a cake ?\n\nAssistant:")
        const [winner] = tokenizer.encode(" yes")
        const config = { rank: 8, alpha: 16, targets: Lora.allTargets(checkpoint.config) }
        const fresh = yield* Effect.fromResult(Lora.init(checkpoint.config, config, 1))
        const adapter = Adapters.fromLora(fresh, checkpoint.config, { value: kind === "ppo" })
        const reference = Adapters.fromLora(fresh, checkpoint.config)
        const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 64 })
        const forward = Forward.over(yield* Scorer.make(checkpoint, { maxTokens: 4096 }))
        const learner = yield* Learner.make(checkpoint, adapter, objectives[kind], options(0))
        const state = Learner.initialState(adapter.vector)
        const models = { adapter, reference, forward, learner, state }
        const rewards: Array<number> = []
        for (let iteration = 0; iteration < iterations; iteration++) {
          const rollouts = yield* Effect.forEach(
            Array.from({ length: 64 }, (_, i) => `${iteration}/${i}`),
            (id) =>
              Effect.map(
                decoder.generate({
                  id,
                  ids: promptIds,
                  adapter,
                  seed: 5,
                  maxTokens: 2,
                  temperature: 1,
                  stopIds: new Set()
                }),
                (c) => ({ id, promptIds, ...c, reward: c.tokenIds[0] === winner ? 1 : 0 })
              ),
            { concurrency: "unbounded" }
          )
          rewards.push(rollouts.reduce((sum, r) => sum + r.reward, 0) / rollouts.length)
          const how = options(iteration)
          if (kind === "ppo") {
            const metrics = yield* PolicyGradient.update(models, rollouts, how)
            expect(Number.isFinite(metrics.loss)).toBe(true)
            continue
          }
          const measured = yield* PolicyGradient.against(models, PolicyGradient.answersOf(rollouts))
          const rows =
            kind === "grpo"
              ? PolicyGradient.grpoRows(measured, samples, true)
              : PolicyGradient.rlooRows(measured, samples, how.klCoefficient)
          const weigh = kind === "grpo" ? PolicyGradient.aggregate("token") : PolicyGradient.bySequence
          const rates = { learningRates: [how.learningRate], weightDecays: [0], maxGradNorm: 1 }
          const { means, skipped } = yield* Minibatches.learn(models, rows, weigh, rates, how)
          expect(Number.isFinite(means["loss"])).toBe(true)
          expect(skipped).toEqual([])
        }
        expect(rewards[0]).toBeLessThan(0.3)
        expect(rewards.at(-1)).toBeGreaterThan(0.9)
      })
    )
  }
})

describe("what is learnt from answers", () => {
  const answer = (id: string, logprobs: ReadonlyArray<number>, reward: number, expected: ReadonlyArray<number>) => {
    const tokenIds = logprobs.map((_, t) => t)
    const [measured] = PolicyGradient.answersOf([{ id, promptIds: [7, 8], tokenIds, logprobs, reward }])
    const kl = logprobs.reduce((sum, x, t) => sum + x - expected[t]!, 0)
    return { ...measured!, expected, kl, kl3: 0 }
  }
  const answers = [answer("far", [-1, -1], 1, [-2, -3]), answer("near", [-1], 1, [-1])]
  const rounded = (numbers: ArrayLike<number> | undefined) => Array.from(numbers!, (x) => Math.round(1e4 * x) / 1e4)

  it("is every token of an answer, and none of its prompt", () => {
    expect(answers[0]!.ids).toEqual([7, 8, 0, 1])
    expect(answers[0]!.weights).toEqual([0, 0, 1, 1])
    expect(answers[0]!.from).toBe(2)
  })

  it.effect("is, for ppo, what the value head did not expect of the reward less the KL term", () =>
    Effect.gen(function* () {
      const values = [[0.5, 0.25], [0.5]].map((row) => Float32Array.from(row))
      const forward = { values: () => Effect.succeed(values) } as unknown as Forward.Forward
      const models = { adapter: {} as Adapters.Adapter, forward }
      const { rows } = yield* PolicyGradient.ppoRows(models, answers, { gamma: 1, klCoefficient: 0.1, lambda: 1 })
      // Rewards of the tokens: −0.1 · 1 and 1 − 0.1 · 2; and 1. Returns are what is still to come of them.
      expect(rows.map(({ perToken }) => rounded(perToken["returns"]))).toEqual([[0.7, 0.8], [1]])
      expect(rows.map(({ perToken }) => rounded(perToken["old_values"]))).toEqual([[0.5, 0.25], [0.5]])
      // Returns less values are 0.2, 0.55 and 0.5, of mean 0.4167 and deviation 0.1893.
      expect(rows.map(({ perToken }) => rounded(perToken["advantages"]))).toEqual([[-1.1446, 0.7044], [0.4402]])
    })
  )

  it("is, for rloo, the reward less the KL term against those of the other answers", () => {
    const rows = PolicyGradient.rlooRows(answers, 2, 0.1)
    expect(rows.map(({ perSequence }) => rounded([perSequence["advantages"]!])[0])).toEqual([-0.3, 0.3])
  })

  it("counts by tokens, or by answers and then by their tokens", () => {
    const rows = PolicyGradient.grpoRows(answers, 2, true)
    const weights = (aggregation: "token" | "sequence", name: "weights" | "shares") =>
      rows.map((row) => rounded(PolicyGradient.aggregate(aggregation)(rows)(row).perToken[name]))
    expect(weights("token", "weights")).toEqual([[0.3333, 0.3333], [0.3333]])
    expect(weights("sequence", "weights")).toEqual([[0.25, 0.25], [0.5]])
    expect(weights("sequence", "shares")).toEqual([[0.3333, 0.3333], [0.3333]])
    expect(PolicyGradient.bySequence(rows)(rows[0]!).perSequence).toEqual({ weights: 0.5 })
  })
})

describe("an update", () => {
  it("warms its learning rate up and lets it fall to the floor", () => {
    const at = (iteration: number) =>
      PolicyGradient.rateFactor({ ...options(iteration), iterations: 24, warmupIterations: 3 })
    expect([0, 1, 2, 3].map(at)).toEqual([0.25, 0.5, 0.75, 1])
    expect(at(23)).toBeCloseTo(0.3, 12)
    expect(at(13)).toBeCloseTo(0.65, 12)
  })

  /** An adapter of no maps. */
  const adapterOf = Effect.fnUntraced(function* (heads: { readonly value?: boolean } = {}) {
    const config = { rank: 1, alpha: 1, targets: [] }
    const lora = { config, taskType: "CAUSAL_LM", tensors: new Map(), scales: new Map() } as const
    return Adapters.fromLora(lora, (yield* Checkpoint.open(sandbox)).config, heads)
  })

  /** A learner that only takes steps. */
  const learnerOf = (step: Learner.Learner["step"]): Learner.Learner => ({
    step,
    measure: () => Effect.succeed({ loss: 1 })
  })

  const rates = { learningRates: [0.1], weightDecays: [0], maxGradNorm: 1 }

  /** Minibatches of two of six answers, of which those in `bad` (by number) have no finite loss. */
  const learn = (bad: ReadonlyArray<number>, skipped: number) =>
    Effect.gen(function* () {
      let minibatch = 0
      const step = () => Effect.sync(() => ({ loss: bad.includes(minibatch++) ? NaN : 1, grad_norm: 1 }))
      const state = Learner.initialState(new Float32Array(1))
      const answers = ["a", "b", "c", "d", "e", "f"].map((id) => ({
        ...{ id, promptIds: [1], tokenIds: [2], logprobs: [-1], reward: Number(id > "c") },
        ...{ ids: [1, 2], from: 1, weights: [0, 1] }
      }))
      const rows = PolicyGradient.grpoRows(answers, 6, true)
      const how = { seed: 1, iteration: 0, epochs: 1, minibatchSize: 2, microTokens: 64, skipped }
      const models = { adapter: yield* adapterOf(), learner: learnerOf(step), state }
      return yield* Minibatches.learn(models, rows, PolicyGradient.byToken, rates, how)
    })

  it("says why nothing can be learnt from answers", () => {
    const answer = { id: "a", logprobs: [-1, -2], reward: 0.5 }
    expect(PolicyGradient.unlearnable([answer])).toBeUndefined()
    expect(PolicyGradient.unlearnable([answer, { ...answer, id: "b", logprobs: [-1, NaN] }])).toBe(
      "the policy's log-probability of a token of the answer b is NaN"
    )
    expect(PolicyGradient.unlearnable([{ ...answer, reward: Infinity }])).toBe("the reward of the answer a is Infinity")
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
      const learner = learnerOf((_, batch) =>
        Effect.sync(() => {
          seen.push(batch.flatMap(({ feeds }) => Array.from(feeds["targets"]!.data as BigInt64Array, Number)))
          return { loss: 1, grad_norm: 1 }
        })
      )
      const state = Learner.initialState(new Float32Array(1))
      const models = { adapter: yield* adapterOf(), learner, state }
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

  it.effect("that stops says so, and one learns nothing from an empty answer", () =>
    Effect.gen(function* () {
      const begun = Float32Array.of(1)
      const state = Learner.initialState(begun)
      const adapter = yield* adapterOf({ value: true })
      const minusOne = (_: unknown, answers: ReadonlyArray<PolicyGradient.Answer>) =>
        Effect.succeed(answers.map(({ logprobs }) => logprobs.map(() => -1)))
      const forward = { logprobs: minusOne, values: minusOne }
      let good = 1
      const learner = learnerOf(() =>
        Effect.sync(() => {
          if (good-- <= 0) return { loss: NaN, grad_norm: NaN }
          Object.assign(state, { parameters: Float32Array.of(9), step: state.step + 1 })
          return { loss: 1, grad_norm: 1 }
        })
      )
      const models = { adapter, reference: undefined, forward, learner, state } as unknown as PolicyGradient.Models
      const rollouts = ["a", "b", "c", "d"].map((id) => ({
        ...{ id, promptIds: [1], tokenIds: [2], logprobs: [-1], reward: Number(id > "b") }
      }))
      const how = { ...options(0), epochs: 1, minibatchSize: 1 }
      const error = yield* Effect.flip(PolicyGradient.update(models, rollouts, how))
      expect(error.message).toContain("3 minibatches in a row")

      good = 4
      const empty = { id: "empty", promptIds: [1], tokenIds: [], logprobs: [], reward: 100 }
      const metrics = yield* PolicyGradient.update(models, [...rollouts, empty], how)
      expect([metrics.reward, metrics.tokens, state.step]).toEqual([0.5, 4, 5])
    })
  )

  it.effect("of answers at a temperature has the log-probabilities that they were sampled with", () =>
    Effect.gen(function* () {
      const rollout = { id: "a", promptIds: [1], tokenIds: [2, 3], logprobs: [-1, -2], reward: 0 }
      const answers = PolicyGradient.answersOf([rollout])
      const forward = { logprobs: () => Effect.succeed([[-3, -4]]) }
      const models = { adapter: undefined, forward } as unknown as PolicyGradient.Models
      expect(yield* PolicyGradient.atTemperature(models, answers, 1)).toBe(answers)
      expect(yield* PolicyGradient.atTemperature(models, answers, 0.5)).toEqual([{ ...answers[0], logprobs: [-3, -4] }])
    })
  )
})
