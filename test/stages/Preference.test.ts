import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Preference, Sample, Stage } from "../../src/index.ts"
import { MockDecisionModel } from "../../src/testing/index.ts"
import { answer, constitution, prompt } from "./Fixture.ts"

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
      assert.closeTo(probability, 0.5, 1e-12)
      assert.closeTo((byOrder[0] - byOrder[1]!) / 2, 0.4, 1e-12)
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

  it.effect("hands identical and empty answers over with the reason", () =>
    Effect.gen(function* () {
      const comparisons = [
        Sample.comparison(answer("Same.", 0), answer("Same. ", 1)),
        Sample.comparison(answer("Some.", 0), answer(" ", 1)),
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
          ["UnusableComparison", "an answer has no text"]
        ]
      )
    })
  )
})
