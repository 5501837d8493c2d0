import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { LanguageModel, Prompt } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import { Preference, Response, Transcript } from "../../../src/index.ts"
import {
  AnthropicClient,
  AnthropicDecisionModel,
  AnthropicLanguageModel
} from "../../../src/providers/anthropic/index.ts"
import { constitution, prompt } from "../../stages/Fixture.ts"
import { Budget } from "../../../src/providers/http/index.ts"
import * as FakeServer from "../http/FakeServer.ts"

const message = (text: string) => ({
  model: "claude-fake-1",
  content: [{ type: "text", text }],
  stop_reason: "end_turn",
  usage: { input_tokens: 9, output_tokens: 3 }
})

/** Writes different answers, and judges for (A) three times in four. */
const answering: FakeServer.Answer = (response, asked, n) => {
  const judging = JSON.stringify(asked.body).includes("Answer with one of")
  FakeServer.json(message(judging ? (n % 4 === 0 ? "(B)" : "(A)") : `Answer ${n}.\n\nHuman: more`))(response, asked, n)
}

const models = (baseUrl: string) =>
  Layer.merge(AnthropicLanguageModel.layer, AnthropicDecisionModel.layer({ votes: 4 })).pipe(
    Layer.provide(AnthropicClient.layer({ baseUrl, model: "claude-fake" })),
    Layer.provide(FetchHttpClient.layer)
  )

describe("Anthropic", () => {
  it.effect("is found with and without the version in the base URL", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      for (const url of [server.url, `${server.url}/`, new URL(server.url).origin]) {
        yield* Response.one(prompt).pipe(Effect.provide(models(url)))
      }
      assert.deepStrictEqual(
        server.asked.map(({ path }) => path),
        Array(3).fill("/v1/messages")
      )
    })
  )

  it.effect("says why an answer ended: by itself, at a stop text that it was not told, or for want of room", () =>
    Effect.gen(function* () {
      const ended = (text: string, stop_reason: string) => FakeServer.json({ ...message(text), stop_reason })
      const server = yield* FakeServer.start(
        FakeServer.script(
          ended("Yes.", "end_turn"),
          ended("Yes.\n\n\nNo", "max_tokens"),
          ended("Yes. And", "max_tokens"),
          ended("Yes. And", "model_context_window_exceeded")
        )
      )
      const paragraphs = { ...Transcript.humanAssistant, response: () => ({ context: "?", stop: ["\n\n\n"] }) }
      const answers = yield* Response.one(prompt).pipe(
        Effect.replicateEffect(4),
        Effect.provide(models(server.url)),
        Effect.provideService(Transcript.Transcript, paragraphs)
      )
      assert.deepStrictEqual(
        answers.map(({ text, finish }) => [text, finish]),
        [
          ["Yes.", "stop"],
          ["Yes.", "stop"],
          ["Yes. And", "length"],
          ["Yes. And", "length"]
        ]
      )
    })
  )

  it.effect("has its tokens estimated where what it counts is no count", () =>
    Effect.gen(function* () {
      const told = [{ input_tokens: -1000, output_tokens: 1e308 }, { input_tokens: 9.5 }, null]
      const answers = told.map((usage) => FakeServer.json({ ...message("a".repeat(60)), usage }))
      const server = yield* FakeServer.start(FakeServer.script(...answers))
      const spent = yield* Effect.gen(function* () {
        yield* Effect.replicateEffect(Response.one(prompt, { maxTokens: 40 }), 3)
        return yield* (yield* Budget.Budget).spent
      }).pipe(Effect.provide(models(server.url)), Effect.provide(Budget.layer({ tokens: 1000 })))
      assert.strictEqual(spent.output, 3 * 20)
      assert.isAbove(spent.input, 3 * 15)
    })
  )

  it.effect("is told how to narrow the distribution as far as it knows, and says what it does not", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      yield* Response.one(prompt, { topP: 0.9, topK: 20 }).pipe(Effect.provide(models(server.url)))
      assert.deepStrictEqual([server.asked[0]!.body.top_p, server.asked[0]!.body.top_k], [0.9, 20])
      const error = yield* Effect.flip(Response.one(prompt, { minP: 0.1 }).pipe(Effect.provide(models(server.url))))
      assert.include(error.message, "no minP")
    })
  )

  it.effect("reads text only, and names a part that is none", () =>
    Effect.gen(function* () {
      const prompt = Prompt.make([
        { role: "user", content: [Prompt.makePart("file", { mediaType: "image/png", data: "iVBORw0KGgo=" })] }
      ])
      const server = yield* FakeServer.start(answering)
      const error = yield* Effect.flip(LanguageModel.generateText({ prompt }).pipe(Effect.provide(models(server.url))))
      assert.include(error.message, "this provider reads text only; leave parts of the type file out of the prompt")
    })
  )

  for (const transcript of [Transcript.humanAssistant, Transcript.chat]) {
    it.effect(`answers and judges by votes, with the transcript ${transcript.name}`, () =>
      Effect.gen(function* () {
        const server = yield* FakeServer.start(answering)
        const preferences = yield* Stream.make(prompt).pipe(
          Response.pair({ temperature: 0.7 }),
          Preference.stage(),
          Stream.runCollect,
          Effect.provide([models(server.url), constitution]),
          Effect.provideService(Transcript.Transcript, transcript)
        )
        assert.strictEqual(preferences.length, 1)
        assert.strictEqual(preferences[0]!.model, "claude-fake-1")
        assert.closeTo(
          preferences[0]!.byOrder.reduce<number>((sum, p) => sum + (p ?? 0), 0),
          1,
          0.5
        )
        // Two answers, and four votes for each of two orders.
        assert.strictEqual(server.asked.length, 2 + 2 * 4)

        const [{ path, headers, body } = assert.fail()] = server.asked
        assert.strictEqual(path, "/v1/messages")
        assert.strictEqual(headers["anthropic-version"], "2023-06-01")
        assert.deepStrictEqual([body.model, body.temperature], ["claude-fake", 0.7])
        assert.strictEqual(body.messages.at(-1).role, "user")
        if (transcript.name === "human-assistant") {
          assert.include(body.stop_sequences, "\n\nHuman:")
          assert.include(body.system, "Continue the text")
          assert.notInclude(preferences[0]!.comparison.first.text, "Human")
        }
      })
    )
  }
})
