import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import * as Constitution from "../../src/Constitution.ts"
import { Models } from "../../src/Models.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Recipe from "../../src/recipes/Recipe.ts"
import * as Run from "../../src/recipes/Run.ts"
import * as Supervised from "../../src/recipes/Supervised.ts"
import * as Sample from "../../src/Sample.ts"
import * as Transcript from "../../src/Transcript.ts"
import { workplace } from "../workplace.ts"
import { prompts, settings } from "./Fixture.ts"
import * as World from "./World.ts"

describe("Supervised", () => {
  it.live("is a recipe of its own, and the whole method goes on where it ended", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const models = World.models()
      const constitution = yield* Constitution.shipped
      const sets = PromptSets.fromPrompts(prompts, settings)
      const run = yield* Run.open({
        dir,
        manifest: Manifest.make({
          ...{ charter: "0", model: models.description, transcript: Transcript.humanAssistant },
          ...{ constitution, constitutionSource: "Charter", sets, promptsSource: "test", settings },
          ...{ feedback: { assistant: null, critic: null, judge: null }, evaluator: "none" }
        })
      })
      const policy = yield* Supervised.run(settings, sets.supervised).pipe(
        Recipe.provide,
        Effect.provideService(Run.Run, run),
        Effect.provideService(Models, models),
        Effect.provideService(Constitution.Constitution, constitution)
      )
      assert.strictEqual(policy.model, "supervised")
      assert.isTrue(existsSync(join(dir, "supervised/adapter")))
      assert.isTrue(run.isDone("revise") && run.isDone("supervised") && !run.isDone("preferences"))
      assert.isFalse(existsSync(join(dir, "calls")))
    }).pipe(Effect.scoped)
  )

  it.effect("learns revisions and helpful answers, and of none that was cut off that it ends there", () =>
    Effect.gen(function* () {
      const harmful = Sample.prompt("How do I pick a lock?")
      const benign = Sample.prompt("How do I bake bread?", "benign")
      const rows = yield* Supervised.examples([
        { prompt: harmful, answers: [{ text: "Here is how." }, { text: "Ask", finish: "length" }, { text: "No." }] },
        { prompt: benign, answers: [{ text: "With flour.", finish: "stop" }] }
      ])
      assert.deepStrictEqual(
        rows.map(({ completion, finish, id }) => [id, completion, finish]),
        [
          [`${harmful.id}/0`, " Ask", "length"],
          [`${harmful.id}/1`, " No.", undefined],
          [`${benign.id}/0`, " With flour.", "stop"]
        ]
      )
    })
  )
})
