/**
 * A unit test of stages with mocks: no model, no network, no native code, and every call can be looked at.
 *
 *     npx vitest run examples/stage.test.ts
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Constitution, Critique, Response, Revision, Sample, Stage } from "charter-ai"
import { MockLanguageModel } from "charter-ai/testing"

const prompts = Stream.make("one", "two", "three").pipe(Stream.map((text) => Sample.prompt(text)))

describe("a pipeline", () => {
  it.effect("revises each answer under the principle of its critique", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(({ id }) => `the ${id.split("/").at(-2)}`)
      const revisions = yield* prompts.pipe(
        Response.stage(),
        Critique.stage(),
        Revision.stage(),
        Stream.runCollect,
        Effect.provide([model.layer, Constitution.layerShipped])
      )
      assert.strictEqual(revisions.length, 3)
      assert.strictEqual(revisions[0]!.text, "the revision")
      assert.strictEqual(model.calls.length, 9)
      assert.include(model.calls.at(-1)!.context, "RevisionRequest:")
    })
  )

  it.effect("goes on when a call fails", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("fine", { failOn: [2] })
      const rejected: Array<Stage.Rejected> = []
      const responses = yield* prompts.pipe(
        Response.stage({ concurrency: 1, rejectTo: (sample) => Effect.sync(() => void rejected.push(sample)) }),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(
        responses.map(({ prompt }) => prompt.text),
        ["one", "three"]
      )
      assert.strictEqual(rejected[0]!.reason.tag, "InternalProviderError")
    })
  )
})
