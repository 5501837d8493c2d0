import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Redacted } from "effect"
import { AiError, LanguageModel } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import type * as Endpoint from "../../../src/providers/http/Endpoint.ts"
import { AnthropicClient, AnthropicLanguageModel } from "../../../src/providers/anthropic/index.ts"
import { OpenAiClient, OpenAiLanguageModel } from "../../../src/providers/openai-compatible/index.ts"
import * as FakeServer from "./FakeServer.ts"

const key = "sk-a-secret-that-nobody-may-see"

const chat = { model: "fake", choices: [{ message: { content: "Hello." }, finish_reason: "stop" }] }
const messages = {
  model: "fake",
  content: [{ type: "text", text: "Hello." }],
  stop_reason: "end_turn",
  usage: { input_tokens: 3, output_tokens: 2 }
}

const providers = [
  {
    name: "openai-compatible",
    good: FakeServer.json(chat),
    layer: (baseUrl: string, options: Endpoint.Options) =>
      OpenAiLanguageModel.layer.pipe(
        Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", apiKey: Redacted.make(key), ...options }))
      )
  },
  {
    name: "anthropic",
    good: FakeServer.json(messages),
    layer: (baseUrl: string, options: Endpoint.Options) =>
      AnthropicLanguageModel.layer.pipe(
        Layer.provide(AnthropicClient.layer({ baseUrl, model: "fake", apiKey: Redacted.make(key), ...options }))
      )
  }
]

const refused = (message: string, type = "error") => ({ type: "error", error: { type, message } })

describe.each(providers)("$name, when its server fails", ({ good, layer }) => {
  const ask = (
    answer: FakeServer.Answer,
    options: Endpoint.Options = {},
    step = 0.1,
    arrived: (seconds: number) => number = () => 0
  ) =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answer)
      const { exit, seconds } = yield* FakeServer.drive(
        LanguageModel.generateText({ prompt: "Hi" }).pipe(
          Effect.provide(layer(server.url, { timeout: "10 hours", ...options })),
          Effect.provide(FetchHttpClient.layer)
        ),
        step,
        (seconds) => server.asked.length < arrived(seconds)
      )
      const text = Exit.isSuccess(exit) ? exit.value.text : undefined
      const error = Exit.isFailure(exit) ? (Cause.squash(exit.cause) as AiError.AiError) : undefined
      return { text, error, seconds, asked: server.asked.length }
    })

  it.effect("waits as long as Retry-After says after a 429", () =>
    Effect.gen(function* () {
      const { text, seconds, asked } = yield* ask(
        FakeServer.script(FakeServer.json(refused("slow down"), 429, { "retry-after": "7" }), good)
      )
      assert.deepStrictEqual([text, asked], ["Hello.", 2])
      assert.isAtLeast(seconds, 7)
    })
  )

  it.effect("does not wait longer than it may", () =>
    Effect.gen(function* () {
      const { error, asked } = yield* ask(FakeServer.json(refused("slow down"), 429, { "retry-after": "3600" }))
      assert.deepStrictEqual([error?.reason._tag, asked], ["RateLimitError", 1])
    })
  )

  it.effect("asks again after a 500, half a body and bad JSON", () =>
    Effect.gen(function* () {
      const { text, asked } = yield* ask(
        FakeServer.script(FakeServer.json(refused("oops"), 500), FakeServer.half, FakeServer.raw("<html>"), good)
      )
      assert.deepStrictEqual([text, asked], ["Hello.", 4])
    })
  )

  it.effect("gives up after its retries, with the kind of failure", () =>
    Effect.gen(function* () {
      const retry = { times: 1 }
      const down = yield* ask(FakeServer.json(refused("oops"), 500), { retry })
      assert.deepStrictEqual([down.error?.reason._tag, down.asked], ["InternalProviderError", 2])
      assert.include(down.error?.message, "oops")
      const torn = yield* ask(FakeServer.half, { retry })
      assert.deepStrictEqual([torn.error?.reason._tag, torn.asked], ["NetworkError", 2])
      const bad = yield* ask(FakeServer.raw("<html>"), { retry })
      assert.deepStrictEqual([bad.error?.reason._tag, bad.asked], ["InvalidOutputError", 2])
    })
  )

  it.effect("ends an attempt that brings nothing at all", () =>
    Effect.gen(function* () {
      const { error, asked, seconds } = yield* ask(
        FakeServer.silent,
        { timeout: "20 minutes", retry: { times: 1 } },
        10,
        (seconds) => (seconds >= 1220 ? 2 : 1)
      )
      assert.deepStrictEqual([error?.reason._tag, asked], ["NetworkError", 2])
      assert.include(error?.message, "no answer within 20m")
      assert.isAtLeast(seconds, 2400)
    })
  )

  it.effect("names a wrong key, a wrong model and another kind of server, and does not ask again", () =>
    Effect.gen(function* () {
      const denied = yield* ask(FakeServer.json(refused(`Incorrect API key provided: ${key}`), 401))
      assert.deepStrictEqual([denied.error?.reason._tag, denied.asked], ["AuthenticationError", 1])
      assert.include(denied.error?.message, "Incorrect API key provided: <redacted>")
      const missing = yield* ask(FakeServer.json(refused("no such model"), 404))
      assert.deepStrictEqual([missing.error?.reason._tag, missing.asked], ["InvalidRequestError", 1])
      assert.include(missing.error?.message, 'Check that the server has a model "fake"')
      const other = yield* ask(FakeServer.json({ hello: "world" }))
      assert.deepStrictEqual([other.error?.reason._tag, other.asked], ["InvalidResponseError", 1])
    })
  )

  it.effect("leaves a server alone that is down", () =>
    Effect.gen(function* () {
      const { error, asked } = yield* ask(FakeServer.json(refused("oops"), 500), { breaker: { failures: 2 } })
      assert.strictEqual(asked, 2)
      assert.include(error?.message, "left alone for a while")
    })
  )
})
