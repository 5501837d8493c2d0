import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as Constitution from "../../src/Constitution.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Run from "../../src/recipes/Run.ts"
import type { Settings } from "../../src/recipes/Settings.ts"
import * as Transcript from "../../src/Transcript.ts"
import { workplace } from "../workplace.ts"
import { models, prompts, runIn, settings } from "./Fixture.ts"

const Note = Schema.Struct({ id: Schema.String, text: Schema.String })

/** A start of a program with a phase of its own, which writes a note and is not in the manifest. */
const start = Effect.fnUntraced(function* (dir: string, changed: Partial<Settings> = {}, ends = true) {
  const used = { ...settings, ...changed }
  const manifest = Manifest.make({
    charter: "0.0.0",
    model: models().service.description,
    transcript: Transcript.plain,
    constitution: yield* Constitution.shipped,
    constitutionSource: "Charter",
    sets: PromptSets.fromPrompts(prompts, used),
    promptsSource: "test",
    feedback: { assistant: null, critic: null, judge: null },
    evaluator: "none",
    settings: used
  })
  const run = yield* Run.open({ dir, manifest })
  const done = run.isDone("mine")
  const write = Effect.gen(function* () {
    const notes = yield* run.log("mine/notes.jsonl", Note, ({ id }) => id)
    yield* notes.append({ id: "note", text: `written with seed ${used.seed}` })
    if (!ends) return yield* Effect.interrupt
    return notes.get("note")!.text
  })
  const text = yield* Effect.exit(run.phase("mine", write))
  return { done, text: text._tag === "Success" ? text.value : undefined, notice: run.notice }
}, Effect.scoped)

describe("a phase that the manifest does not have", () => {
  it.effect("is done once, and again with its records where anything else is", () =>
    Effect.gen(function* () {
      const dir = workplace()
      assert.deepInclude(yield* start(dir, { seed: 1 }), { done: false, text: "written with seed 1" })
      assert.deepInclude(yield* start(dir, { seed: 1 }), { done: true, text: "written with seed 1" })
      // Nothing that a run makes depends on this.
      assert.deepInclude(yield* start(dir, { seed: 1, concurrency: 7 }), { done: true, notice: undefined })
      // Cut off before its end, after its record.
      assert.deepInclude(yield* start(dir, { seed: 2 }, false), { done: false, text: undefined })
      const again = yield* start(dir, { seed: 2 })
      assert.deepInclude(again, { done: false, text: "written with seed 2" })
      const back = yield* start(dir, { seed: 1 })
      assert.deepInclude(back, { done: false, text: "written with seed 1" })
      assert.include(back.notice, "mine/notes.jsonl is done again; what was there is in earlier/2")
      assert.include(readFileSync(join(dir, "earlier/2/mine/notes.jsonl"), "utf8"), "written with seed 2")
    })
  )

  it.effect("is none of the recipe's", () =>
    Effect.gen(function* () {
      const dir = workplace()
      yield* runIn(dir, models())
      assert.notInclude(readFileSync(join(dir, "manifest.json"), "utf8"), "everything")
    })
  )
})
