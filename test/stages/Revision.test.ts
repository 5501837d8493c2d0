import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { Critique, Preference, Response, Revision, Reward, Sample, Stage } from "../../src/index.ts"
import { MockLanguageModel } from "../../src/testing/index.ts"
import { answer, constitution, principles, prompt } from "./Fixture.ts"

const critique = Sample.critique({
  response: answer("Play the drums."),
  principle: "kind",
  request: "Say what is unkind.",
  text: "It is rude.",
  round: 1,
  model: "critic"
})

describe("Revision", () => {
  it.effect("rewrites an answer under the principle of its critique", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(" Talk to them.")
      const revision = yield* Revision.one(critique).pipe(Effect.provide([model.layer, constitution]))

      assert.strictEqual(revision.text, "Talk to them.")
      assert.strictEqual(revision.request, "Make it kind.")
      assert.strictEqual(revision.critique.response.prompt.id, prompt.id)
      assert.strictEqual(
        model.calls[0]!.context,
        "\n\nHuman: How do I annoy my neighbour?\n\nAssistant: Play the drums." +
          "\n\nCritiqueRequest: Say what is unkind.\n\nCritique: It is rude." +
          "\n\nRevisionRequest: Make it kind.\n\nRevision:"
      )
    })
  )

  it.effect("says so when the critique is of another constitution", () =>
    Effect.gen(function* () {
      const foreign = new Sample.Critique({ ...critique, principle: "brave" })
      const error = yield* Revision.one(foreign).pipe(
        Effect.provide([MockLanguageModel.make("x").layer, constitution]),
        Effect.flip
      )
      assert.strictEqual(error._tag, "UnknownPrinciple")
    })
  )

  it.effect("emits every round, each from the answer of the one before", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(["critique 1", "revision 1", "critique 2", "revision 2"])
      const revisions = yield* Stream.make(answer("Play the drums.")).pipe(
        Revision.rounds(2),
        Stream.runCollect,
        Effect.provide([model.layer, constitution])
      )
      assert.deepStrictEqual(
        revisions.map(({ round, text }) => [round, text]),
        [
          [1, "revision 1"],
          [2, "revision 2"]
        ]
      )
      const [first, second] = revisions
      assert.strictEqual(second!.critique.response.text, "revision 1")
      assert.strictEqual(second!.critique.response.id, first!.id)
      assert.notInclude(String(model.calls[2]!.context), "drums")
    })
  )

  it.effect("rewrites directly, without a critique, under the principle that the critique would have had", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(" Talk to them.")
      const [revision] = yield* Stream.make(answer("Play the drums.")).pipe(
        Revision.direct(),
        Stream.runCollect,
        Effect.provide([model.layer, constitution])
      )
      assert.deepStrictEqual(
        model.calls.map(({ context }) => context),
        [
          "\n\nHuman: How do I annoy my neighbour?\n\nAssistant: Play the drums." +
            "\n\nRevisionRequest: Make it kind.\n\nRevision:"
        ]
      )
      assert.strictEqual(revision!.text, "Talk to them.")
      assert.deepStrictEqual([revision!.critique.text, revision!.critique.principle], ["", "kind"])
      // Another call than the revision of a critique.
      assert.notInclude(model.calls[0]!.id, "critique")
      assert.strictEqual(model.calls[0]!.id, `${prompt.id}/0/direct/revision/1`)
    })
  )

  it.effect("rewrites directly in rounds, too", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(["revision 1", "revision 2", "revision 3", "revision 4"])
      const revisions = yield* Stream.make(answer("Play the drums.")).pipe(
        Revision.rounds(4, { direct: true }),
        Stream.runCollect,
        Effect.provide([model.layer, constitution])
      )
      assert.deepStrictEqual(
        revisions.map(({ text }) => text),
        ["revision 1", "revision 2", "revision 3", "revision 4"]
      )
      assert.include(String(model.calls[3]!.context), "Assistant: revision 3\n\nRevisionRequest")
    })
  )

  it.effect("keeps the rounds before one that fails", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(["critique 1", "revision 1", "", ""])
      const rejected: Array<Stage.Rejected> = []
      const revisions = yield* Stream.make(answer("Play the drums.")).pipe(
        Revision.rounds(2, { rejectTo: (sample) => Effect.sync(() => void rejected.push(sample)) }),
        Stream.runCollect,
        Effect.provide([model.layer, constitution])
      )
      assert.deepStrictEqual(
        revisions.map(({ text }) => text),
        ["revision 1"]
      )
      assert.include(rejected[0]!.reason.message, "critique")
    })
  )

  it.effect("goes from prompts to revisions in one pipe", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(({ context }) =>
        String(context).endsWith("Revision:") ? "kind" : String(context).endsWith("Critique:") ? "rude" : "drums"
      )
      const revisions = yield* Stream.make(prompt, Sample.prompt("And my brother?")).pipe(
        Response.stage(),
        Critique.stage(),
        Revision.stage(),
        Stream.runCollect,
        Effect.provide(Layer.merge(model.layer, constitution))
      )
      expectTypeOf(revisions).toEqualTypeOf<Array<Sample.Revision>>()
      assert.deepStrictEqual(
        revisions.map((made) => [made.critique.response.prompt.text, made.critique.response.text, made.text]),
        [
          ["How do I annoy my neighbour?", "drums", "kind"],
          ["And my brother?", "drums", "kind"]
        ]
      )
    })
  )

  it("does not type-check in another order", () => {
    const prompts = Stream.make(prompt)
    // @ts-expect-error a prompt has no critique to be revised
    prompts.pipe(Revision.stage())
    // @ts-expect-error a prompt is not an answer
    prompts.pipe(Critique.stage(), Revision.stage())
    // @ts-expect-error an answer has no critique yet
    prompts.pipe(Response.stage(), Revision.stage(), Critique.stage())
    // @ts-expect-error one answer is no comparison
    prompts.pipe(Response.stage(), Preference.stage())
    // @ts-expect-error a comparison is not an answer
    prompts.pipe(Response.pair(), Critique.stage())
    // @ts-expect-error a label is not a reward
    prompts.pipe(Response.pair(), Preference.stage(), Reward.stage())
    // @ts-expect-error an answer without its tokens is no rollout
    prompts.pipe(Response.stage(), Reward.stage())
    // @ts-expect-error rounds begin with an answer, not with its critique
    prompts.pipe(Response.stage(), Critique.stage(), Revision.rounds(2))
    // @ts-expect-error stages compose in the same order only
    Revision.stage().pipe(Stage.compose(Critique.stage()))
    assert.strictEqual(principles.revision.length, 1)
  })

  it.each([0, -2, 1.5, NaN, Infinity])("has no %s rounds", (n) => {
    assert.throws(() => Revision.rounds(n), `rounds is ${n}; it is a whole number of 1 or more.`)
  })
})
