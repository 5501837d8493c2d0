import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as TrainAnswers from "../../src/cli/TrainAnswers.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import type { ModelConfig } from "../../src/model/ModelConfig.ts"

const options = {
  batchSize: 4,
  samples: 2,
  maxTokens: 1,
  temperature: 1,
  rewardClip: null,
  missingStopPenalty: 0,
  seed: 1
}

/** Models that answer every prompt with its own first token, and like what is large. */
const models = {
  checkpoint: { eosTokenIds: [] },
  codec: Option.none(),
  decoder: {
    generate: ({ ids }: { readonly ids: ReadonlyArray<number> }) =>
      Effect.succeed({ tokenIds: [ids[0]!], logprobs: [-1], samplingLogprobs: [-1], finish: "length" })
  },
  judging: {
    scores: (_: unknown, rows: ReadonlyArray<ReadonlyArray<number>>) => Effect.succeed(rows.map((row) => row.at(-1)!))
  }
} as unknown as Parameters<typeof TrainAnswers.from>[0]

const log = { of: () => [], append: () => Effect.void }

describe("the answers of an update", () => {
  it.effect("are to every prompt in turn, of which those of other updates are not looked at", () =>
    Effect.gen(function* () {
      let looks = 0
      const prompts = new Proxy(
        Array.from({ length: 100 }, (_, i) => ({ id: `${i}`, ids: [i] })),
        {
          get: (prompts, name, self) => {
            if (typeof name === "string" && /^\d+$/.test(name)) looks++
            return Reflect.get(prompts, name, self) as unknown
          }
        }
      )
      const answers = TrainAnswers.from(models, prompts, log, options)
      const updates = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, i) => i),
        answers
      )
      const asked = updates.flatMap((update) =>
        update.filter((_, i) => i % 2 === 0).map(({ promptIds }) => promptIds[0]!)
      )
      expect(asked.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
      expect(looks).toBe(100)
    })
  )

  it("are given the memory without which the longest prompt is refused, by a model whose tokens take much of it, too", () => {
    // SmolLM2-1.7B: all of its heads have keys of their own.
    const large = { config: { layers: 24, kvHeads: 32, headDim: 64 } as ModelConfig }
    const prompts = [8, 1000, 20].map((length) => ({ id: `${length}`, ids: Array<number>(length).fill(1) }))
    const least = Decoder.leastMemory(large.config, { ids: prompts[1]!.ids, maxTokens: 128 })
    expect(least).toBeGreaterThan(2 ** 29)
    expect(TrainAnswers.cacheMemory(large, prompts, 128)).toBe(least)
    expect(TrainAnswers.cacheMemory(large, prompts.slice(0, 1), 128)).toBe(2 ** 29)
  })
})
