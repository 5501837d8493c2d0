import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Forward from "../../src/engine/Forward.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as PolicyGradient from "../../src/engine/PolicyGradient.ts"
import * as Rollouts from "../../src/engine/Rollouts.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"

const sandbox = new URL("../../assets/sandbox", import.meta.url).pathname

const how: PolicyGradient.Options = {
  seed: 5,
  iteration: 0,
  epochs: 2,
  minibatchSize: 32,
  microTokens: 2048,
  temperature: 1,
  warn: Effect.logWarning
}

const objectives = {
  ppo: Objective.ppo({ clip: 0.2, valueClip: 0.2, valueCoefficient: 0.1 }),
  grpo: Objective.grpo({ clip: 0.2, beta: 0.01 }),
  rloo: Objective.rloo({ clip: 0.2 })
}

/** Answers to a prompt that are compared with each other. */
const samples = 8

const algorithms: Record<"ppo" | "grpo" | "rloo", PolicyGradient.Algorithm> = {
  ppo: { kind: "ppo", gamma: 1, lambda: 0.95, klCoefficient: 0.01 },
  grpo: { kind: "grpo", samples, aggregation: "token", klCoefficient: 0.01 },
  rloo: { kind: "rloo", samples, klCoefficient: 0.01 }
}

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
        const learner = yield* Learner.make(checkpoint, adapter, objectives[kind], how)
        const state = Learner.initialState(adapter.vector)
        const models = { adapter, reference, forward, learner, state }
        const rewards: Array<number> = []
        for (let iteration = 0; iteration < 12; iteration++) {
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
          const rates = {
            learningRates: adapter.layout.groups.map(({ name }) => (name === Adapters.groups.value ? 1e-2 : 3e-3)),
            weightDecays: adapter.layout.groups.map(() => 0),
            maxGradNorm: 1
          }
          const options = { ...how, iteration }
          const { means, skipped } = yield* PolicyGradient.update(models, rollouts, algorithms[kind], rates, options)
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
    const [measured] = Rollouts.answersOf([{ id, promptIds: [7, 8], tokenIds, logprobs, reward }])
    const kl = logprobs.reduce((sum, x, t) => sum + x - expected[t]!, 0)
    return { ...measured!, expected, kl, kl3: 0 }
  }
  const answers = [answer("far", [-1, -1], 1, [-2, -3]), answer("near", [-1], 1, [-1])]
  const rounded = (numbers: ArrayLike<number> | undefined) => Array.from(numbers!, (x) => Math.round(1e4 * x) / 1e4)

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
    const rows = PolicyGradient.grpoRows(answers, 2)
    const weights = (aggregation: "token" | "sequence", name: "weights" | "shares") =>
      rows.map((row) => rounded(PolicyGradient.aggregate(aggregation)(rows)(row).perToken[name]))
    expect(weights("token", "weights")).toEqual([[0.3333, 0.3333], [0.3333]])
    expect(weights("sequence", "weights")).toEqual([[0.25, 0.25], [0.5]])
    expect(weights("sequence", "shares")).toEqual([[0.3333, 0.3333], [0.3333]])
    expect(PolicyGradient.bySequence(rows)(rows[0]!).perSequence).toEqual({ weights: 0.5 })
  })
})
