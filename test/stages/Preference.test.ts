import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { DecisionModel, LanguageModel } from "effect/ai"
import { Constitution, Preference, Sample, Stage } from "../../src/index.ts"
import { MockDecisionModel, MockLanguageModel } from "../../src/testing/index.ts"
import { answer, constitution, principles, prompt } from "./Fixture.ts"

const pair = Sample.comparison(answer("Talk to them.", 0), answer("Play the drums.", 1))

/** A judge that likes talking, with a bias to the option shown first. */
const judge = MockDecisionModel.make(({ a }) => (a.includes("Talk") ? 0.95 : 0.25))

describe("Preference", () => {
  it.effect("is the judge's probability that the first answer is the better", () =>
    Effect.gen(function* () {
      const preference = yield* Preference.one(pair).pipe(Effect.provide([judge.layer, constitution]))

      assert.closeTo(preference.probability, (0.95 + 0.75) / 2, 1e-12)
      assert.strictEqual(preference.principle, "kinder")
      assert.strictEqual(preference.request, "Choose the kinder response.")
      assert.strictEqual(preference.model, "mock-judge")
      assert.strictEqual(preference.comparison.prompt.id, prompt.id)
    })
  )

  it.effect("un-swaps the second order: both numbers are about the first answer", () =>
    Effect.gen(function* () {
      const provided = Effect.provide([judge.layer, constitution])
      const { byOrder, probability } = yield* Preference.one(pair).pipe(provided)
      assert.closeTo(byOrder[0], 0.95, 1e-12)
      assert.closeTo(byOrder[1]!, 0.75, 1e-12)

      // Exchanging the answers exchanges the label; a label that was not un-swapped would stay the same.
      const exchanged = yield* Preference.one(Sample.comparison(pair.second, pair.first)).pipe(provided)
      assert.closeTo(exchanged.probability, 1 - probability, 1e-12)
    })
  )

  it.effect("gives a half where the judge only looks at the position", () =>
    Effect.gen(function* () {
      const biased = MockDecisionModel.make(0.9)
      const { byOrder, probability } = yield* Preference.one(pair).pipe(Effect.provide([biased.layer, constitution]))
      assert.strictEqual(probability, 0.5)
      assert.closeTo((byOrder[0] - byOrder[1]!) / 2, 0.4, 1e-12)
    })
  )

  it.effect("gives exactly a half for any liking of the first option, and marks the tie", () =>
    Effect.gen(function* () {
      // By 20 points, and by others that no sum of floating-point numbers brings to a half by itself.
      for (const p of [0.6, 0.7, 0.9, 0.55, 0.123, 1 / 3]) {
        const biased = MockDecisionModel.make(p)
        const preference = yield* Preference.one(pair).pipe(Effect.provide([biased.layer, constitution]))
        assert.strictEqual(preference.probability, 0.5)
        assert.strictEqual(preference.tie, true)
      }
    })
  )

  it.effect("averages an ensemble of principles, each on record", () =>
    Effect.gen(function* () {
      const three = Constitution.layer(
        new Constitution.Principles({
          ...principles,
          comparison: [
            { id: "kinder", principle: "Kinder?" },
            { id: "safer", principle: "Safer?" },
            { id: "wiser", principle: "Wiser?" }
          ]
        })
      )
      const byPrinciple = { "Kinder?": 0.9, "Safer?": 0.6, "Wiser?": 0.3 } as Record<string, number>
      const varied = MockDecisionModel.make(({ a, instructions }) =>
        a.includes("Talk") ? byPrinciple[instructions]! : 1 - byPrinciple[instructions]!
      )
      const preference = yield* Preference.one(pair, { principles: 3 }).pipe(Effect.provide([varied.layer, three]))
      assert.closeTo(preference.probability, 0.6, 1e-12)
      assert.deepStrictEqual(preference.judgements?.map(({ principle }) => principle).toSorted(), [
        "kinder",
        "safer",
        "wiser"
      ])
      assert.strictEqual(preference.principle.split(" + ").length, 3)
      for (const { request, byOrder } of preference.judgements!)
        assert.closeTo(byOrder[0], byPrinciple[request]!, 1e-12)
      // Six questions, each with an id of its own.
      assert.strictEqual(new Set(varied.calls.map(({ sampling }) => sampling.id)).size, 6)
    })
  )

  it.effect("thinks step by step, and clamps what is over-confident then", () =>
    Effect.gen(function* () {
      const sure = MockDecisionModel.make(({ a }) => (a.includes("Talk") ? 0.99 : 0.02))
      const thinker = MockLanguageModel.make(
        ({ id }) => ` Talking helps (${id.split("/").at(-2)}).\n\nThe answer is: (A)`
      )
      const preference = yield* Preference.one(pair, { reasoning: true }).pipe(
        Effect.provide([sure.layer, thinker.layer, constitution])
      )
      assert.strictEqual(preference.probability, 0.6)
      // The judge's own numbers stay on record, with what was thought in each order.
      assert.deepStrictEqual([...preference.byOrder], [0.99, 0.98])
      assert.deepStrictEqual(preference.judgements![0]!.reasoning, ["Talking helps (1).", "Talking helps (2)."])
      assert.include(
        String(sure.calls[0]!.sampling.context),
        "\n\nLet's think step by step: Talking helps (1).\n\nThe answer is:"
      )
      assert.match(String(thinker.calls[1]!.context), /\(A\) Play the drums\.[^]*Let's think step by step:$/)
    })
  )

  it.effect("clamps where it is told, and nowhere else", () =>
    Effect.gen(function* () {
      const sure = Effect.provide([
        MockDecisionModel.make(({ a }) => (a.includes("Talk") ? 0.99 : 0.01)).layer,
        MockLanguageModel.make("Talking helps.").layer,
        constitution
      ])
      const label = (options: Preference.Options) =>
        Preference.one(pair, options).pipe(
          Effect.map(({ probability }) => probability),
          sure
        )
      assert.strictEqual(yield* label({}), 0.99)
      assert.strictEqual(yield* label({ clamp: [0.1, 0.9] }), 0.9)
      assert.strictEqual(yield* label({ reasoning: true, clamp: [0, 1] }), 0.99)
      const exchanged = yield* Preference.one(Sample.comparison(pair.second, pair.first), { reasoning: true }).pipe(
        sure
      )
      assert.strictEqual(exchanged.probability, 0.4)
    })
  )

  it.effect("hands a comparison over whose reasoning is empty", () =>
    Effect.gen(function* () {
      const error = yield* Preference.one(pair, { reasoning: true }).pipe(
        Effect.provide([judge.layer, MockLanguageModel.make(" ").layer, constitution]),
        Effect.flip
      )
      assert.include(error.message, "the reasoning cannot be used")
    })
  )

  it("needs a language model only for a reasoning", () => {
    type Needs<S> = S extends Stage.Stage<infer _A, infer _B, infer _E, infer R> ? R : never
    const without = Preference.stage({ principles: 2 })
    const withReasoning = Preference.stage({ reasoning: true })
    expectTypeOf<Needs<typeof without>>().toEqualTypeOf<DecisionModel.DecisionModel | Constitution.Constitution>()
    expectTypeOf<Needs<typeof withReasoning>>().toEqualTypeOf<
      DecisionModel.DecisionModel | Constitution.Constitution | LanguageModel.LanguageModel
    >()
  })

  it.effect("puts worked examples before the question", () =>
    Effect.gen(function* () {
      const undecided = MockDecisionModel.make(0.5)
      const comparison = [{ prompt: "Hi", chosen: "Hello.", rejected: "Go away." }]
      const shots = Constitution.layer(new Constitution.Principles({ ...principles, fewShot: { comparison } }))
      yield* Preference.one(pair).pipe(Effect.provide([undecided.layer, shots]))
      assert.match(
        String(undecided.calls[0]!.sampling.context),
        /\(A\) Hello\.\n\(B\) Go away\.\n\nThe answer is: \(A\)\n\nConsider [^]*\(A\) Talk to them\./
      )
    })
  )

  it.effect("asks once where one order is enough", () =>
    Effect.gen(function* () {
      const biased = MockDecisionModel.make(0.9)
      const preference = yield* Preference.one(pair, { orders: "first" }).pipe(
        Effect.provide([biased.layer, constitution])
      )
      assert.strictEqual(preference.probability, 0.9)
      assert.deepStrictEqual([...preference.byOrder], [0.9])
      assert.strictEqual(biased.calls.length, 1)
    })
  )

  it.effect("shows the judge the exact transcript, in both orders", () =>
    Effect.gen(function* () {
      const undecided = MockDecisionModel.make(0.5)
      yield* Preference.one(pair).pipe(Effect.provide([undecided.layer, constitution]))
      assert.strictEqual(
        undecided.calls[0]!.sampling.context,
        "Consider the following conversation between a human and an assistant:" +
          "\n\nHuman: How do I annoy my neighbour?\n\nChoose the kinder response." +
          "\n\nOptions:\n(A) Talk to them.\n(B) Play the drums.\n\nThe answer is:"
      )
      assert.include(String(undecided.calls[1]!.sampling.context), "(A) Play the drums.\n(B) Talk to them.")
      assert.deepStrictEqual(undecided.calls[0]!.sampling.options, [" (A)", " (B)"])
    })
  )

  it.effect("compares answers to benign prompts for helpfulness", () =>
    Effect.gen(function* () {
      const benign = Sample.prompt("How do I bake bread?", "benign")
      const comparison = Sample.comparison(answer("Knead.", 0, benign), answer("Bake.", 1, benign))
      const preference = yield* Preference.one(comparison).pipe(Effect.provide([judge.layer, constitution]))
      assert.strictEqual(preference.principle, "useful")
    })
  )

  it.effect("hands over what cannot be compared, with the reason", () =>
    Effect.gen(function* () {
      const comparisons = [
        Sample.comparison(answer("Same.", 0), answer("Same. ", 1)),
        Sample.comparison(answer("Some.", 0), answer(" ", 1)),
        Sample.comparison(answer("Knead.", 0, Sample.prompt("How do I bake bread?")), answer("Play the drums.", 1)),
        pair
      ]
      const rejected: Array<Stage.Rejected> = []
      const preferences = yield* Stream.fromIterable(comparisons).pipe(
        Preference.stage().pipe(Stage.rejectTo((sample) => Effect.sync(() => rejected.push(sample)))),
        Stream.runCollect,
        Effect.provide([judge.layer, constitution])
      )
      assert.strictEqual(preferences.length, 1)
      assert.deepStrictEqual(
        rejected.map(({ reason }) => [reason.tag, reason.message]),
        [
          ["UnusableComparison", "both answers are the same text"],
          ["UnusableComparison", "an answer has no text"],
          ["UnusableComparison", "the answers are to different prompts"]
        ]
      )
    })
  )

  it.each([0, -2, 1.5, NaN])("asks under no %s principles", (principles) => {
    assert.throws(() => Preference.stage({ principles }), `principles is ${principles}; it is a whole number`)
  })

  it.each([
    [0.6, 0.4],
    [NaN, 1]
  ])("has no label between %s and %s, where all labels would be the same or none", (least, most) => {
    assert.throws(() => Preference.stage({ clamp: [least, most] }), `clamp is [${least}, ${most}]; the first`)
  })
})
