import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { DecisionModel, LanguageModel } from "effect/ai"
import { join } from "node:path"
import * as Constitution from "../../src/Constitution.ts"
import * as Calls from "../../src/recipes/Calls.ts"
import * as Log from "../../src/recipes/Log.ts"
import * as Sample from "../../src/Sample.ts"
import * as Sampling from "../../src/Sampling.ts"
import * as Preference from "../../src/stages/Preference.ts"
import * as Response from "../../src/stages/Response.ts"
import { MockDecisionModel, MockLanguageModel, MockModels } from "../../src/testing/index.ts"
import { workplace } from "../workplace.ts"

/** Runs with the calls kept in a file. */
const keeping =
  (file: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Effect.scoped(
      Effect.flatMap(Log.open({ file, schema: Calls.Call, key: ({ key }) => key }), (log) =>
        Effect.provideService(self, Calls.Calls, log)
      )
    )

const prompt = Sample.prompt("What is a lock?")

describe("calls", () => {
  it.effect("of a policy are made once, by everything that was asked", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockModels.make({ base: { sample: ({ id }) => `says ${id}`, choose: () => [-1, -2] } })
      const { base } = Calls.models(mock.service)
      const request = { id: "a", context: "Hello", seed: 1, maxTokens: 8, temperature: 1 }
      const first = yield* base.sample(request).pipe(keeping(file))
      const again = yield* base.sample(request).pipe(keeping(file))
      assert.deepStrictEqual(again, first)
      assert.strictEqual(mock.base.samples.length, 1)
      yield* base.sample({ ...request, seed: 2 }).pipe(keeping(file))
      assert.strictEqual(mock.base.samples.length, 2)
      yield* Effect.replicateEffect(base.choose("a", "Which?", ["A", "B"]).pipe(keeping(file)), 2)
      assert.strictEqual(mock.base.choices.length, 1)
      // Where nothing is kept, every call is made.
      yield* base.sample(request)
      assert.strictEqual(mock.base.samples.length, 3)
    })
  )

  it.effect("are other ones where another token is made likelier", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockModels.make({ base: { sample: ({ logitBias }) => `likes ${[...logitBias!.keys()].join()}` } })
      const { base } = Calls.models(mock.service)
      const request = { id: "a", context: "Hello", seed: 1, maxTokens: 8, temperature: 1 }
      const liking = (token: number) =>
        Effect.map(base.sample({ ...request, logitBias: new Map([[token, 5]]) }), ({ text }) => text).pipe(
          keeping(file)
        )
      assert.deepStrictEqual([yield* liking(1), yield* liking(2), yield* liking(1)], ["likes 1", "likes 2", "likes 1"])
      assert.strictEqual(mock.base.samples.length, 2)
    })
  )

  it.effect("that fail, or whose answer no file can hold, are made again", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockModels.make({ base: { sample: "yes", choose: () => [0, -Infinity], failOn: [1] } })
      const { base } = Calls.models(mock.service)
      const request = { id: "a", context: "Hello", seed: 1, maxTokens: 8, temperature: 1 }
      yield* Effect.flip(base.sample(request)).pipe(keeping(file))
      assert.strictEqual((yield* base.sample(request).pipe(keeping(file))).text, "yes")
      yield* Effect.flip(base.choose("a", "Which?", ["A", "B"])).pipe(keeping(file))
      const choose = base.choose("a", "Which?", ["A", "B"]).pipe(keeping(file))
      assert.deepStrictEqual(yield* choose, [0, -Infinity])
      assert.deepStrictEqual(yield* choose, [0, -Infinity])
      assert.strictEqual(mock.base.choices.length, 3)
    })
  )

  it.effect("of a reward model are made once", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockModels.make({ rewardModel: () => ({ score: 0.25 }) })
      const model = yield* Calls.models(mock.service).rewardModel("r", { _tag: "folder", dir: "x", seed: 1 })
      const score = model.score({ id: "a", context: "Hello", completion: " you" }).pipe(keeping(file))
      assert.deepStrictEqual([yield* score, yield* score], [0.25, 0.25])
      assert.strictEqual(mock.rewardModels.get("r")?.scores.length, 1)
    })
  )

  it.effect("of a language model give the same record again", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockLanguageModel.make("A device.", { model: "hosted" })
      const ask = Response.one(prompt, { seed: 3 }).pipe(
        Effect.updateService(LanguageModel.LanguageModel, (model) => Calls.languageModel("hosted", model)),
        Effect.provide(mock.layer),
        keeping(file)
      )
      const first = yield* ask
      assert.strictEqual(first.model, "hosted")
      assert.deepStrictEqual(yield* ask, first)
      assert.strictEqual(mock.calls.length, 1)
      // What is not a plain text is the model's own affair.
      const streamed = yield* LanguageModel.streamText({ prompt: "Hello" }).pipe(
        Stream.runCollect,
        Effect.updateService(LanguageModel.LanguageModel, (model) => Calls.languageModel("hosted", model)),
        Effect.provide(mock.layer),
        keeping(file)
      )
      assert.isAbove(streamed.length, 0)
    })
  )

  it.effect("of a judge are made once for each order", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "calls.jsonl")
      const mock = MockDecisionModel.make(({ a }) => (a.startsWith("good") ? 0.8 : 0.4), { model: "judge" })
      const answer = (text: string, index: number) => Sample.response({ prompt, text, model: "m", seed: 1, index })
      const judge = Preference.one(Sample.comparison(answer("good", 0), answer("bad", 1)), { seed: 1 }).pipe(
        Effect.updateService(DecisionModel.DecisionModel, (model) => Calls.decisionModel("judge", model)),
        Effect.provide(mock.layer),
        Effect.provide(Constitution.layerShipped),
        Sampling.provide({ seed: 1 }),
        keeping(file)
      )
      const first = yield* judge
      assert.closeTo(first.probability, 0.7, 1e-12)
      assert.deepStrictEqual(yield* judge, first)
      assert.strictEqual(mock.calls.length, 2)
      const lines = yield* Effect.scoped(Log.open({ file, schema: Calls.Call, key: ({ key }) => key }))
      assert.deepStrictEqual(
        lines.values().map(({ id }) => id.split("/").slice(-2).join("/")),
        ["preference/1", "preference/2"]
      )
    })
  )
})
