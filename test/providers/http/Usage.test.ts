import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Usage from "../../../src/providers/http/Usage.ts"
import * as Sampling from "../../../src/Sampling.ts"

const row = (change: Partial<Usage.Row>): Usage.Row => ({
  model: "m",
  stage: "critique",
  principle: "p",
  calls: 0,
  cached: 0,
  failed: 0,
  tokens: { input: 0, output: 0 },
  ...change
})

describe("the accounts of calls", () => {
  it.effect("have a row for each model, stage and principle, in which calls are told from each other", () =>
    Effect.gen(function* () {
      const usage = yield* Usage.make
      const label = { model: "m", stage: "critique", principle: "p" }
      const answered = (input: number, output: number) => ({ _tag: "Answered", tokens: { input, output } }) as const
      yield* usage.record(label, answered(1, 2))
      yield* usage.record({ ...label, principle: "q" }, { _tag: "Failed" })
      yield* usage.record(label, answered(10, 20))
      yield* usage.record(label, { _tag: "Cached" })
      yield* usage.record({ ...label, stage: "other" }, answered(5, 5))
      yield* usage.record({ ...label, model: "n" }, { _tag: "Cached" })
      const rows = yield* usage.rows
      assert.deepStrictEqual(rows, [
        row({ calls: 2, cached: 1, tokens: { input: 11, output: 22 } }),
        row({ principle: "q", failed: 1 }),
        row({ stage: "other", calls: 1, tokens: { input: 5, output: 5 } }),
        row({ model: "n", cached: 1 })
      ])
      assert.deepStrictEqual(
        [...Usage.by(rows, "model")],
        [
          ["m", { calls: 3, cached: 1, failed: 1, tokens: { input: 16, output: 27 } }],
          ["n", { calls: 0, cached: 1, failed: 0, tokens: { input: 0, output: 0 } }]
        ]
      )
    })
  )

  it.effect("name the stage by the call's id, and the principle by what is known of it, unless they are told", () =>
    Effect.gen(function* () {
      const labelled = (id: string, principle?: string, question?: string) =>
        Effect.flatMap(Sampling.Sampling, (sampling) =>
          Effect.provideService(Usage.labelOf("m", question), Sampling.Sampling, {
            ...sampling,
            id,
            ...(principle === undefined ? {} : { principle })
          })
        )
      const label = (stage: string, principle = "") => ({ model: "m", stage, principle })
      assert.deepStrictEqual(yield* labelled("x/0/critique/1"), label("critique"))
      assert.deepStrictEqual(yield* labelled("critique/0/revision/1"), label("revision"))
      assert.deepStrictEqual(yield* labelled("x", "known", "asked"), label("other", "known"))
      assert.deepStrictEqual(yield* labelled("x", undefined, "asked"), label("other", "asked"))
      const told = labelled("x/0/critique/1").pipe(Usage.label({ principle: "inner" }), Usage.label({ stage: "outer" }))
      assert.deepStrictEqual(yield* told, label("outer", "inner"))
    })
  )
})
