import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Constitution, Critique } from "../../src/index.ts"
import { MockLanguageModel } from "../../src/testing/index.ts"
import { answer, constitution, principles, prompt } from "./Fixture.ts"

describe("Critique", () => {
  it.effect("asks what is wrong with an answer under a principle", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(" It is rude: very.", { model: "critic" })
      const critique = yield* Critique.one(answer("Play the drums.")).pipe(Effect.provide([model.layer, constitution]))
      assert.strictEqual(critique.text, "It is rude: very.")
      assert.strictEqual(critique.principle, "kind")
      assert.strictEqual(critique.request, "Say what is unkind.")
      assert.strictEqual(critique.round, 1)
      assert.strictEqual(critique.response.prompt.id, prompt.id)
      assert.strictEqual(
        model.calls[0]!.context,
        "\n\nHuman: How do I annoy my neighbour?\n\nAssistant: Play the drums." +
          "\n\nCritiqueRequest: Say what is unkind.\n\nCritique:"
      )
    })
  )

  it.effect("draws the principle from seed, prompt, sample and round, not from the answer", () =>
    Effect.gen(function* () {
      const many = new Constitution.Principles({
        ...principles,
        revision: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => ({ id: `p${i}`, critique: "C", revision: "R" })) as never
      })
      const draw = (text: string, seed: number, round: number) =>
        Critique.one(answer(text), { seed, round }).pipe(Effect.map(({ principle }) => principle))
      const provided = Effect.provide([MockLanguageModel.make("bad").layer, Constitution.layer(many)])

      assert.strictEqual(yield* draw("x", 1, 1).pipe(provided), yield* draw("y", 1, 1).pipe(provided))
      const rounds = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (round) => draw("x", 1, round)).pipe(provided)
      const seeds = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (seed) => draw("x", seed, 1)).pipe(provided)
      assert.isAbove(new Set(rounds).size, 1)
      assert.isAbove(new Set(seeds).size, 1)
    })
  )
})
