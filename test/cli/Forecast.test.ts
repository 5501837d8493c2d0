import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Forecast from "../../src/cli/Forecast.ts"
import type * as Hosted from "../../src/cli/Hosted.ts"
import * as Constitution from "../../src/Constitution.ts"
import * as Tokens from "../../src/providers/http/Tokens.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Settings from "../../src/recipes/Settings.ts"
import * as Sample from "../../src/Sample.ts"
import * as Transcript from "../../src/Transcript.ts"
import { models } from "../recipes/Fixture.ts"

const critic: Hosted.Hosted = { judge: undefined, critic: { kind: "openai", model: "m", url: undefined } }

/** The forecast of a run over so many prompts, one round of revision unless the settings say otherwise. */
const forecast = Effect.fnUntraced(function* (
  counts: { readonly harmful: number; readonly benign: number },
  changes: { readonly supervised?: object; readonly evaluation?: object } = {}
) {
  const of = (kind: "harmful" | "benign") =>
    Array.from({ length: counts[kind] }, (_, i) => Sample.prompt(`${kind} question ${i}`, kind))
  const defaults = Settings.forPrompts(counts)
  const settings: Settings.Settings = {
    ...defaults,
    supervised: { ...defaults.supervised, rounds: 1, ...changes.supervised },
    evaluation: { ...defaults.evaluation, prompts: 0, benignRevisions: 0, ...changes.evaluation }
  }
  const sets = PromptSets.fromPrompts([...of("harmful"), ...of("benign")], settings)
  return yield* Forecast.of(critic, settings, sets).pipe(
    Effect.provideService(Constitution.Constitution, yield* Constitution.shipped),
    Effect.provideService(Transcript.Transcript, Transcript.forModel(models().service))
  )
})

const calls = (...args: Parameters<typeof forecast>) => Effect.map(forecast(...args), ({ calls }) => calls)

describe("the forecast of what a critic is asked", () => {
  it.effect("is a critique and a revision a round of each harmful prompt, once where all are trained on", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* calls({ harmful: 4, benign: 2 }), 4 * 2)
      assert.strictEqual(yield* calls({ harmful: 40, benign: 0 }, { supervised: { rounds: 2 } }), 40 * 2 * 2)
    })
  )

  it.effect("has the prompts of the evaluation that the training did not revise", () =>
    Effect.gen(function* () {
      const one = { supervised: { rounds: 2, prompts: 1 } }
      assert.strictEqual(yield* calls({ harmful: 4, benign: 0 }, one), 4 * 2 * 2)
      assert.strictEqual(yield* calls({ harmful: 30, benign: 0 }, { supervised: { prompts: 2 } }), 30 * 2)
      assert.strictEqual(yield* calls({ harmful: 2, benign: 3 }, { supervised: { prompts: 0 } }), 2 * 2)
      const benign = { evaluation: { benignRevisions: 2 } }
      assert.strictEqual(yield* calls({ harmful: 4, benign: 3 }, benign), (4 + 2) * 2)
    })
  )

  it.effect("has those that are kept out of the training, with answers as long as the evaluation's", () =>
    Effect.gen(function* () {
      const kept = (maxTokens: number) =>
        forecast({ harmful: 30, benign: 0 }, { evaluation: { prompts: 8, maxTokens }, supervised: { maxTokens: 50 } })
      const { calls, tokens } = yield* kept(50)
      assert.strictEqual(calls, 30 * 2)
      assert.strictEqual((yield* kept(70)).tokens.output, tokens.output + 8 * 20)
    })
  )
})

describe("a forecast in words", () => {
  const settings = Settings.forPrompts({ harmful: 4, benign: 0 })
  const words = (calls: number, input: number) =>
    Forecast.words({ calls, tokens: { ...Tokens.zero, input, output: 0 } }, Tokens.zero, settings)

  it("is no smaller than the numbers that it has", () => {
    assert.include(words(104, 12_345), "at most about 110 calls, 13,000 tokens read")
    assert.include(words(96, 1_210_000), "at most about 96 calls, 1.3 million tokens read")
  })
})
