import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { LanguageModel } from "effect/ai"
import { Response, Sample, Sampling, Stage, Transcript } from "../../src/index.ts"
import * as Written from "../../src/providers/http/Written.ts"
import * as OnnxLanguageModel from "../../src/providers/onnx/OnnxLanguageModel.ts"
import { MockLanguageModel, MockPolicy } from "../../src/testing/index.ts"
import { prompt } from "./Fixture.ts"
import { workplace } from "../workplace.ts"

describe("Response", () => {
  it.effect("puts the conversation to the model and keeps its answer, whole", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("  Two ways: first talk, then: listen.\n", { model: "helpful-only" })
      const response = yield* Response.one(prompt, { seed: 7 }).pipe(Effect.provide(model.layer))

      assert.strictEqual(response.text, "Two ways: first talk, then: listen.")
      assert.strictEqual(response.model, "helpful-only")
      assert.strictEqual(response.seed, 7)
      assert.strictEqual(response.prompt.id, prompt.id)
      assert.strictEqual(model.calls[0]!.context, "\n\nHuman: How do I annoy my neighbour?\n\nAssistant:")
      assert.include(model.calls[0]!.stop, "\n\nHuman:")
    })
  )

  it.effect("says why an answer ended: by itself, at a stop text, or because it was cut off", () =>
    Effect.gen(function* () {
      const finishOf = Effect.fnUntraced(function* (text: string, finish: "stop" | "length") {
        const policy = MockPolicy.make({ sample: [{ text, finish, tokenIds: [], logprobs: [], promptIds: [] }] })
        const response = yield* Response.one(prompt).pipe(Effect.provide(OnnxLanguageModel.fromPolicy(policy.service)))
        return response.finish
      })
      assert.strictEqual(yield* finishOf("Talk first.", "stop"), "stop")
      assert.strictEqual(yield* finishOf("Talk first, and if that", "length"), "length")
      // What was cut off came after the answer.
      assert.strictEqual(yield* finishOf("Talk first.\n\nHuman: And then? I", "length"), "stop")
      const silent = MockLanguageModel.make("Talk first.")
      assert.notProperty(yield* Response.one(prompt).pipe(Effect.provide(silent.layer)), "finish")
    })
  )

  it.effect("rejects what a content filter withheld or broke off, and says so", () =>
    Effect.gen(function* () {
      for (const text of ["", "First you"]) {
        const written = { text, model: "m", finish: "content-filter", tokens: { input: 0, output: 0 } } as const
        const filtered = LanguageModel.make({
          generateText: () => Effect.succeed(Written.parts(written)),
          streamText: () => Stream.empty
        })
        const error = yield* Response.one(prompt).pipe(
          Effect.provideServiceEffect(LanguageModel.LanguageModel, filtered),
          Effect.flip
        )
        assert.strictEqual(error._tag, "UnusableAnswer")
        assert.include(error.message, "the content filter of the model's server")
      }
    })
  )

  it.effect("gives each sample of a prompt randomness of its own", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(({ id }) => `answer to ${id}`)
      const responses = yield* Stream.make(prompt).pipe(
        Response.stage({ samples: 3, seed: 7 }),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(
        responses.map(({ index }) => index),
        [0, 1, 2]
      )
      assert.strictEqual(new Set(model.calls.map(({ id }) => id)).size, 3)
    })
  )

  it.effect("pairs two answers for a comparison", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(({ id }) => id)
      const [comparison] = yield* Stream.make(prompt).pipe(
        Response.pair(),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.strictEqual(comparison!.prompt.id, prompt.id)
      assert.notStrictEqual(comparison!.first.text, comparison!.second.text)
    })
  )

  it.effect("takes seed, length and temperature from the sampling around it", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("yes")
      yield* Response.one(prompt, { temperature: 0 }).pipe(
        Sampling.provide({ seed: 3, maxTokens: 9, temperature: 0.5 }),
        Effect.provide(model.layer)
      )
      const { seed, maxTokens, temperature } = model.calls[0]!
      assert.deepStrictEqual({ seed, maxTokens, temperature }, { seed: 3, maxTokens: 9, temperature: 0 })
    })
  )

  it.effect("hands an empty answer over with its reason and goes on", () =>
    Effect.gen(function* () {
      const prompts = ["one", "two", "three"].map((text) => Sample.prompt(text))
      const model = MockLanguageModel.make(({ context }) => (String(context).includes("two") ? " \n" : "fine"))
      const rejected: Array<Stage.Rejected> = []
      const responses = yield* Stream.fromIterable(prompts).pipe(
        Response.stage().pipe(Stage.rejectTo((sample) => Effect.sync(() => rejected.push(sample)))),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(
        responses.map((response) => response.prompt.text),
        ["one", "three"]
      )
      assert.deepStrictEqual(
        rejected.map(({ id, stage, reason }) => [id, stage, reason.tag]),
        [[prompts[1]!.id, "Response", "UnusableAnswer"]]
      )
    })
  )

  it.effect("loses one sample of a prompt, not the others, when one fails", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("fine", { failOn: [2] })
      const rejected: Array<Stage.Rejected> = []
      const responses = yield* Stream.make(prompt).pipe(
        Response.stage({ samples: 3, rejectTo: (sample) => Effect.sync(() => void rejected.push(sample)) }),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(
        responses.map(({ index }) => index),
        [0, 2]
      )
      assert.strictEqual(rejected[0]!.reason.tag, "InternalProviderError")
    })
  )

  it.effect("replays finished answers from a file, as records, and asks for none of them again", () =>
    Effect.gen(function* () {
      const folder = workplace()
      const model = MockLanguageModel.make(({ id }) => `answer ${id}`, { failOn: [2] })
      const answers = Stream.make(prompt, Sample.prompt("And my brother?")).pipe(
        Response.stage({ samples: 2, concurrency: 1 }).pipe(
          Stage.checkpoint({ file: join(folder, "answers.jsonl"), schema: Sample.Response, concurrency: 1 }),
          Stage.rejectTo(() => Effect.void),
          Stage.provide(model.layer)
        ),
        Stream.runCollect
      )
      assert.strictEqual((yield* answers).length, 3)
      // The prompt of which an answer failed is asked again as a whole, the other one not at all.
      const again = yield* answers
      assert.strictEqual(model.calls.length, 6)
      assert.deepStrictEqual(
        again.map((response) => [response instanceof Sample.Response, response.prompt.text, response.index]),
        [
          [true, prompt.text, 0],
          [true, prompt.text, 1],
          [true, "And my brother?", 0],
          [true, "And my brother?", 1]
        ]
      )
    })
  )

  it.effect("speaks through messages where the transcript is a chat", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("yes")
      yield* Response.one(prompt).pipe(
        Effect.provideService(Transcript.Transcript, Transcript.chat),
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(model.calls[0]!.context, { messages: prompt.messages })
    })
  )
})
