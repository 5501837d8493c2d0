import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer } from "effect"
import { Preference, Sample, Transcript } from "../../../src/index.ts"
import { VotingDecisionModel } from "../../../src/providers/votes/index.ts"
import { MockLanguageModel } from "../../../src/testing/index.ts"
import { answer, constitution } from "../../stages/Fixture.ts"

const pair = Sample.comparison(answer("Talk.", 0), answer("Drums.", 1))

const judge = (model: MockLanguageModel.MockLanguageModel, votes: number) =>
  Effect.provide([VotingDecisionModel.layer({ votes }).pipe(Layer.provide(model.layer)), constitution])

describe("VotingDecisionModel", () => {
  it.effect("makes a soft label of the shares of sampled answers, in both orders", () =>
    Effect.gen(function* () {
      // Three of four vote for talking, in each order.
      const model = MockLanguageModel.make(
        ({ id, context }) => {
          const talk = String(context).includes("(A) Talk.") ? "(A)" : "(B)"
          const drums = talk === "(A)" ? "(B)" : "(A)"
          return ` ${id.endsWith("/3") ? drums : talk}`
        },
        { model: "voter" }
      )
      const preference = yield* Preference.one(pair, { seed: 4 }).pipe(judge(model, 4))
      assert.deepStrictEqual([preference.probability, ...preference.byOrder], [0.75, 0.75, 0.75])
      assert.strictEqual(preference.model, "voter")
      // Each vote is a sample of its own, of the transcript's very context.
      assert.strictEqual(new Set(model.calls.map(({ id }) => id)).size, 8)
      assert.isTrue(model.calls.every(({ context, seed }) => seed === 4 && String(context).endsWith("The answer is:")))
    })
  )

  it.effect("leaves out answers that name no option, and keeps a tie as it is", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(({ id }) => ["(A)", "(B)", "Both are fine.", ""][Number(id.at(-1))]!)
      const preference = yield* Preference.one(pair).pipe(judge(model, 4))
      assert.deepStrictEqual([preference.probability, preference.tie], [0.5, true])
    })
  )

  it.effect("fails where no answer names an option", () =>
    Effect.gen(function* () {
      const error = yield* Preference.one(pair).pipe(judge(MockLanguageModel.make("Both."), 3), Effect.flip)
      assert.include(error.message, "none of 3 answers names an option")
    })
  )

  it.effect("tells a model that knows only messages how to answer", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("The answer is: (A)")
      const preference = yield* Preference.one(pair).pipe(
        judge(model, 2),
        Effect.provideService(Transcript.Transcript, Transcript.chat)
      )
      assert.strictEqual(preference.probability, 0.5)
      const [turn] = model.calls[0]!.prompt.content
      assert.include(JSON.stringify(turn), "Answer with one of (A), (B) and nothing else.")
    })
  )

  it.effect.each([0, 2.5, NaN])("counts no %s votes", (votes) =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("(A)")
      const exit = yield* Effect.exit(Preference.one(pair).pipe(judge(model, votes)))
      const said = `votes is ${votes}; it is a whole number of 1 or more.`
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", said)
      assert.strictEqual(model.calls.length, 0)
    })
  )
})
