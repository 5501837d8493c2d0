import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Golden from "./golden.ts"

describe("the scorer", () => {
  it.live("gives transformers' log-probabilities to rows of any length, in whatever batch they land", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const mask = yield* golden.integers("attention_mask")
      const expected = yield* golden.floats("token_logprobs")
      for (const maxTokens of [1, 48, 4096]) {
        const scorer = yield* Scorer.make(golden.checkpoint, { maxTokens })
        const scored = yield* Effect.forEach(
          golden.rows,
          (row, b) => {
            const length = mask.slice(b * 24, b * 24 + 24).filter((m) => m === 1).length
            const ids = row.slice(0, length)
            return scorer.score({
              ids,
              adapter: undefined,
              kind: "logprobs",
              at: ids.slice(1).map((_, t) => t),
              targets: ids.slice(1)
            })
          },
          { concurrency: "unbounded" }
        )
        scored.forEach((logprobs, b) => {
          const golden = expected.subarray(b * 23, b * 23 + logprobs.length)
          expect(Golden.distance(logprobs, golden)).toBeLessThan(1e-4)
        })
      }
    })
  )
})
