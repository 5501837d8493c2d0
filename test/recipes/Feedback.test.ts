import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Feedback from "../../src/recipes/Feedback.ts"
import { MockDecisionModel, MockLanguageModel } from "../../src/testing/index.ts"
import { workplace } from "../workplace.ts"
import { models, prompts, runIn, settings } from "./Fixture.ts"

const modelsIn = (dir: string, file: string): ReadonlyArray<string> => [
  ...new Set(
    readFileSync(join(dir, file), "utf8")
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { readonly model: string }).model)
  )
]

describe("feedback", () => {
  it.live("comes from the base, unless other models are given", () =>
    Effect.gen(function* () {
      const critic = MockLanguageModel.make(({ id }) => `the critic says ${id}`, { model: "critic" })
      const judge = MockDecisionModel.make(0.9, { model: "judge" })
      const given = Layer.merge(
        Feedback.layerCritic("a critic", critic.layer),
        Feedback.layerJudge("a judge", judge.layer)
      )
      const dir = workplace()
      const mock = models()
      yield* runIn(dir, mock).pipe(Effect.provide(given))

      assert.strictEqual(mock.base.samples.length, prompts.length)
      assert.strictEqual(mock.base.choices.length, 0)
      assert.strictEqual(critic.calls.length, 6 * 2 * settings.supervised.rounds)
      assert.strictEqual(judge.calls.length, 2 * prompts.length)
      assert.deepStrictEqual(modelsIn(dir, "supervised/responses.jsonl"), ["base"])
      assert.deepStrictEqual(modelsIn(dir, "supervised/critiques.jsonl"), ["critic"])
      assert.deepStrictEqual(modelsIn(dir, "supervised/revisions.jsonl"), ["critic"])
      assert.deepStrictEqual(modelsIn(dir, "preferences/preferences.jsonl"), ["judge"])
    })
  )

  it.live("of an assistant is what is criticised", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const assistant = MockLanguageModel.make("an unkind answer", { model: "assistant" })
      yield* runIn(dir, models()).pipe(Effect.provide(Feedback.layerAssistant("an assistant", assistant.layer)))
      assert.deepStrictEqual(modelsIn(dir, "supervised/responses.jsonl"), ["assistant"])
      assert.deepStrictEqual(modelsIn(dir, "supervised/critiques.jsonl"), ["base"])
      assert.include(readFileSync(join(dir, "supervised/critiques.jsonl"), "utf8"), "an unkind answer")
    })
  )
})
