import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Golden from "./golden.ts"

const request = (id: string, ids: ReadonlyArray<number>, more: Partial<Decoder.Request> = {}): Decoder.Request => ({
  id,
  ids,
  adapter: undefined,
  seed: 7,
  maxTokens: 12,
  temperature: 1,
  stopIds: new Set([1]),
  ...more
})

/** Prompts of many lengths. */
const prompts = Array.from({ length: 20 }, (_, i) =>
  request(
    `prompt ${i}`,
    Array.from({ length: 2 + ((i * 7) % 11) }, (_, t) => 3 + ((i * 31 + t * 17) % 300))
  )
)

describe("the decoder", () => {
  it.live("continues greedily with the tokens that transformers gives", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const expected = yield* golden.integers("greedy")
      const decoder = yield* Decoder.make(golden.checkpoint, { memory: 1e8, maxRows: 4 })
      for (const length of [1, 4, 24]) {
        const ids = expected.slice(0, length)
        const { tokenIds } = yield* decoder.generate(
          request("greedy", ids, { temperature: 0, maxTokens: expected.length - length, stopIds: new Set() })
        )
        // The golden continuation starts from the first row's prompt; its own tokens lead to the same ones.
        if (length >= golden.rows[0]!.length) expect(tokenIds).toEqual(expected.slice(length))
      }
    })
  )

  it.live("samples the same tokens alone, in company and in another order", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 5 })
      const together = yield* Effect.forEach(prompts, decoder.generate, { concurrency: "unbounded" })
      const backwards = yield* Effect.forEach([...prompts].reverse(), decoder.generate, { concurrency: "unbounded" })
      const alone = yield* Effect.forEach(prompts, decoder.generate)
      expect(together.map((c) => c.tokenIds)).toEqual(alone.map((c) => c.tokenIds))
      expect(backwards.reverse().map((c) => c.tokenIds)).toEqual(alone.map((c) => c.tokenIds))
    })
  )

  it.live("returns the log-probabilities that the scorer gives for the same tokens", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 256, memory: 1e8 })
      for (const prompt of prompts.slice(0, 6)) {
        const { logprobs, tokenIds } = yield* decoder.generate({ ...prompt, temperature: 0.7 })
        const scored = yield* scorer.score({
          ids: [...prompt.ids, ...tokenIds],
          adapter: undefined,
          kind: "logprobs",
          at: tokenIds.map((_, t) => prompt.ids.length + t - 1),
          targets: tokenIds
        })
        expect(Golden.distance(logprobs, scored)).toBeLessThan(1e-3)
      }
    })
  )

  it.live("ends at a stop token, which is the last one, and says whether it ended by itself", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      const free = yield* decoder.generate(request("a", [5, 6, 7], { stopIds: new Set(), maxTokens: 6 }))
      expect(free.tokenIds).toHaveLength(6)
      expect(free.finish).toBe("length")
      const third = free.tokenIds[2]!
      const stopped = yield* decoder.generate(request("a", [5, 6, 7], { stopIds: new Set([third]), maxTokens: 6 }))
      expect(stopped.tokenIds).toEqual(free.tokenIds.slice(0, free.tokenIds.indexOf(third) + 1))
      expect(stopped.finish).toBe("stop")
      const told = yield* decoder.generate(request("a", [5, 6, 7], { maxTokens: 6, stop: (ids) => ids.length === 2 }))
      expect(told.tokenIds).toEqual(free.tokenIds.slice(0, 2))
    })
  )

  it.live("samples from the distribution: 4,000 first tokens pass a chi-square test", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const vocabulary = checkpoint.config.vocabSize
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 128 })
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096, memory: 1e8 })
      const draws = 4000
      const counts = new Float64Array(vocabulary)
      const drawn = yield* Effect.forEach(
        Array.from({ length: draws }, (_, i) => request(`draw ${i}`, [5, 6, 7], { maxTokens: 1 })),
        decoder.generate,
        { concurrency: "unbounded" }
      )
      for (const { tokenIds } of drawn) counts[tokenIds[0]!]! += 1
      const logprobs = yield* scorer.score({
        ids: [5, 6, 7],
        adapter: undefined,
        kind: "logprobs",
        at: Array(vocabulary).fill(2),
        targets: Array.from({ length: vocabulary }, (_, i) => i)
      })
      const statistic = logprobs.reduce((sum, lp, i) => {
        const expected = draws * Math.exp(lp)
        return sum + (counts[i]! - expected) ** 2 / expected
      }, 0)
      // 319 degrees of freedom: mean 319, standard deviation 25; this is four deviations.
      expect(statistic).toBeLessThan(319 + 4 * 25.3)
    })
  )

  it.live("keeps within its memory: a cache of one row serves many prompts one after the other", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const narrow = yield* Decoder.make(checkpoint, { memory: 1, maxRows: 64 })
      const wide = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 64 })
      const some = prompts.slice(0, 5)
      const one = yield* Effect.forEach(some, narrow.generate, { concurrency: "unbounded" })
      const many = yield* Effect.forEach(some, wide.generate, { concurrency: "unbounded" })
      expect(one.map((c) => c.tokenIds)).toEqual(many.map((c) => c.tokenIds))
    })
  )
})
