import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Redacted } from "effect"
import { AiError, LanguageModel } from "effect/ai"
import { FetchHttpClient, HttpClient, HttpClientError, HttpClientResponse } from "effect/http"
import * as fc from "fast-check"
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

const logprobs = { content: [{ token: "A", logprob: -0.1, top_logprobs: [{ token: "A", logprob: -0.1 }] }] }

const providers = [
  {
    name: "openai-compatible",
    good: FakeServer.json(chat),
    whole: { ...chat, choices: [{ ...chat.choices[0], logprobs }], usage: { prompt_tokens: 3, completion_tokens: 2 } },
    layer: (baseUrl: string, options: Endpoint.Options, apiKey = key) =>
      OpenAiLanguageModel.layer.pipe(
        Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", apiKey: Redacted.make(apiKey), ...options }))
      )
  },
  {
    name: "anthropic",
    good: FakeServer.json(messages),
    whole: messages,
    layer: (baseUrl: string, options: Endpoint.Options, apiKey = key) =>
      AnthropicLanguageModel.layer.pipe(
        Layer.provide(AnthropicClient.layer({ baseUrl, model: "fake", apiKey: Redacted.make(apiKey), ...options }))
      )
  }
]

/** Every JSON that is the given one with a part of it taken out or replaced. */
const mutations = (value: unknown, other: unknown): ReadonlyArray<unknown> => {
  if (typeof value !== "object" || value === null) return [other]
  const within = Object.entries(value).flatMap(([name, inner]) => {
    const copy = (changed: unknown) =>
      Array.isArray(value)
        ? value.map((item, i) => (String(i) === name ? changed : item))
        : { ...value, [name]: changed }
    return [copy(undefined), ...mutations(inner, other).map(copy)]
  })
  return [other, ...within]
}

/** What a gateway answers that is no API. */
const page =
  (status: number, html: string): FakeServer.Answer =>
  (response) =>
    response.writeHead(status, { "content-type": "text/html" }).end(html)

const refused = (message: string, type = "error") => ({ type: "error", error: { type, message } })

describe.each(providers)("$name, when its server fails", ({ good, layer, whole }) => {
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
      return { text, error, seconds, asked: server.asked.length, url: server.url }
    })

  const generate = (url: string, options: Endpoint.Options, apiKey?: string) =>
    LanguageModel.generateText({ prompt: "Hi" }).pipe(
      Effect.provide(layer(url, { timeout: "10 hours", ...options }, apiKey)),
      Effect.provide(FetchHttpClient.layer)
    )

  it.effect("waits as long as Retry-After says after a 429", () =>
    Effect.gen(function* () {
      const { text, seconds, asked } = yield* ask(
        FakeServer.script(FakeServer.json(refused("slow down"), 429, { "retry-after": "7" }), good)
      )
      assert.deepStrictEqual([text, asked], ["Hello.", 2])
      assert.isAtLeast(seconds, 7)
    })
  )

  it.effect("waits until the date that Retry-After gives, and for an overloaded server as well", () =>
    Effect.gen(function* () {
      const { text, seconds, asked } = yield* ask(
        FakeServer.script(
          FakeServer.json(refused("slow down"), 429, { "retry-after": "Thu, 01 Jan 1970 00:00:05 GMT" }),
          FakeServer.json(refused("overloaded"), 503, { "retry-after": "9" }),
          good
        )
      )
      assert.deepStrictEqual([text, asked], ["Hello.", 3])
      assert.isAtLeast(seconds, 14)
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

  it.effect("asks again after an answer with status 200 that is a failure by its code", () =>
    Effect.gen(function* () {
      const failed = (code: unknown) => FakeServer.json({ error: { message: "Provider returned error", code } })
      const { text, asked } = yield* ask(FakeServer.script(failed(502), failed(429), failed(408), good))
      assert.deepStrictEqual([text, asked], ["Hello.", 4])
      const kinds = { 502: "InternalProviderError", 429: "RateLimitError", 402: "QuotaExhaustedError" }
      for (const [code, kind] of Object.entries(kinds)) {
        const { error } = yield* ask(failed(Number(code)), { retry: { times: 0 } })
        assert.strictEqual(error?.reason._tag, kind)
        assert.include(error?.message, `answered ${code}: Provider returned error`)
      }
      const other = yield* ask(failed("odd"))
      assert.deepStrictEqual([other.error?.reason._tag, other.asked], ["InvalidResponseError", 1])
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

  it.effect("ends an attempt whose answer stops in the middle", () =>
    Effect.gen(function* () {
      const stalling: FakeServer.Answer = (response) => {
        response.writeHead(200, { "content-type": "application/json" })
        response.write('{"choices": [')
      }
      const { text, asked } = yield* ask(FakeServer.script(stalling, good), { timeout: "20 minutes" }, 10, (seconds) =>
        seconds >= 1220 ? 2 : 1
      )
      assert.deepStrictEqual([text, asked], ["Hello.", 2])
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
      assert.include(missing.error?.message, 'answered 404: no such model (model "fake"); check that the server has')
      const other = yield* ask(FakeServer.json({ hello: "world" }))
      assert.deepStrictEqual([other.error?.reason._tag, other.asked], ["InvalidResponseError", 1])
      const gateway = yield* ask(FakeServer.json({ error: { message: "no upstream" } }))
      assert.deepStrictEqual([gateway.error?.reason._tag, gateway.asked], ["InvalidResponseError", 1])
      assert.include(gateway.error?.message, "no upstream")
      const spent = yield* ask(FakeServer.json(refused("you owe us", "insufficient_quota"), 429))
      assert.deepStrictEqual([spent.error?.reason._tag, spent.asked], ["QuotaExhaustedError", 1])
      assert.include(spent.error?.message, "you owe us")
    })
  )

  it.effect("knows a spent account also by an answer that blames the request: it is not the fault of any sample", () =>
    Effect.gen(function* () {
      const low = "Your credit balance is too low to access the Anthropic API."
      const answers = [
        FakeServer.json(refused(low, "invalid_request_error"), 400),
        FakeServer.json({ error: { message: "Hard limit", code: "billing_hard_limit_reached" } }, 400),
        FakeServer.json(refused("Check your billing", "billing_not_active"), 429)
      ]
      for (const answer of answers) {
        const { error, asked } = yield* ask(answer)
        assert.deepStrictEqual([error?.reason._tag, asked], ["QuotaExhaustedError", 1])
        assert.include(error?.message, "check the account's billing")
      }
    })
  )

  it.effect("blames one text, and not the key, where a moderation did not let it through", () =>
    Effect.gen(function* () {
      const metadata = { reasons: ["violence"], flagged_input: "Hi", provider_name: "OpenAI" }
      const flagged = { error: { code: 403, message: "your input was flagged", metadata } }
      const { error, asked } = yield* ask(FakeServer.json(flagged, 403))
      assert.deepStrictEqual([error?.reason._tag, asked], ["InvalidRequestError", 1])
      assert.match(error?.message ?? "", /answered 403: your input was flagged .*leave this text out/)
      // Other requests may go well.
      assert.isTrue(error?.reason._tag === "InvalidRequestError" && error.reason.parameter === undefined)
    })
  )

  it.effect("follows no redirect, as the key is for the address that was given, and says where it leads", () =>
    Effect.gen(function* () {
      const other = yield* FakeServer.start(good)
      for (const status of [301, 302, 307, 308]) {
        const moved: FakeServer.Answer = (response, { path }) =>
          response.writeHead(status, { location: `${new URL(path, other.url).href}?token=hush` }).end()
        const { error, asked } = yield* ask(moved)
        assert.deepStrictEqual([error?.reason._tag, asked], ["InvalidRequestError", 1])
        assert.include(error?.message, `answered ${status}: it is at ${new URL(other.url).origin}/v1/`)
        assert.include(error?.message, "give the base URL of that address")
        assert.notInclude(inspect(error, { depth: 9 }), "hush")
      }
      assert.strictEqual(other.asked.length, 0)
    })
  )

  it.effect("says in one sentence which server failed on which model and what to do, and never the key", () =>
    Effect.gen(function* () {
      const retry = { times: 0 }
      const failures: ReadonlyArray<readonly [tag: string, answer: FakeServer.Answer, todo: string]> = [
        ["RateLimitError", FakeServer.json(refused(`slow, ${key}`), 429, { "retry-after": "90" }), "wait 1m 30s"],
        ["QuotaExhaustedError", FakeServer.json(refused(`pay, ${key}`), 402), "check the account's billing"],
        ["AuthenticationError", FakeServer.json(refused(`no ${key}`), 401), "check the key"],
        ["AuthenticationError", FakeServer.json(refused(`not for ${key}`), 403), "check the key"],
        ["InvalidRequestError", FakeServer.json(refused(`none, ${key}`), 404), "check that the server has a model"],
        ["InvalidRequestError", FakeServer.json(refused(`bad field, ${key}`), 400), "change the request"],
        ["InternalProviderError", FakeServer.json(refused(`oops, ${key}`), 500), "try again later"],
        ["InternalProviderError", page(502, "<html>\r\n<h1>502</h1>\r\n\u001b[31m</html>"), "<html> <h1>502</h1> [31m"],
        ["InternalProviderError", FakeServer.json(refused("overloaded", "overloaded_error"), 529), "try again later"],
        ["NetworkError", FakeServer.half, "try again later"],
        ["InvalidOutputError", FakeServer.raw(`<html>${key}`), "check the base URL"],
        ["InvalidResponseError", FakeServer.json({ key }), "check the base URL"],
        ["NetworkError", (response) => response.socket?.destroy(), "check the base URL"]
      ]
      for (const [tag, answer, todo] of failures) {
        const { error, url } = yield* ask(answer, { retry })
        assert.strictEqual(error?.reason._tag, tag)
        assert.include(error?.message, todo)
        assert.include(error?.message, new URL(url).host)
        assert.include(error?.message, '(model "fake")')
        assert.notInclude(`${error?.message} ${JSON.stringify(error)} ${inspect(error, { depth: 9 })}`, key)
        assert.notInclude(error?.message, "\n")
      }
    })
  )

  it.effect("refuses a base URL that is none, or that has a password in it, without asking", () =>
    Effect.gen(function* () {
      for (const url of ["localhost:8000/v1", "ftp://host/v1", "", "http://user:pass@127.0.0.1:9/v1"]) {
        const error = yield* generate(url, {}).pipe(Effect.flip)
        assert.strictEqual(error.reason._tag, "InvalidRequestError")
        assert.include(error.message, "the base URL is no http:// or https:// URL")
        assert.notInclude(error.message, "pass@")
      }
    })
  )

  it.effect("keeps a query of the base URL, which may be secret, out of its errors", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(FakeServer.json(refused("oops"), 400))
      const error = yield* generate(`${server.url}?api-version=1&sig=hush`, {}).pipe(Effect.flip)
      assert.match(server.asked[0]!.path, /^\/v1\/\w.*\?api-version=1&sig=hush$/)
      assert.notInclude(inspect(error, { depth: 9 }), "hush")
    })
  )

  it.effect("gives a text or a typed failure for any JSON, and never crashes", () =>
    Effect.gen(function* () {
      const wholly = fc.sample(fc.jsonValue({ maxDepth: 3 }), { seed: 5, numRuns: 100 })
      const others = [null, 7, "text", [], {}, [null], -7.5]
      const partly = others.flatMap((other) => mutations(whole, other))
      for (const answer of [...wholly, ...partly]) {
        const client = HttpClient.make((request) =>
          Effect.succeed(HttpClientResponse.fromWeb(request, new Response(JSON.stringify(answer) ?? "")))
        )
        const exit = yield* LanguageModel.generateText({ prompt: "Hi" }).pipe(
          Effect.provide(layer("http://127.0.0.1:9/v1", { retry: { times: 0 } })),
          Effect.provideService(HttpClient.HttpClient, client),
          Effect.exit
        )
        if (Exit.isSuccess(exit)) assert.isString(exit.value.text)
        else assert.isTrue(AiError.isAiError(Cause.squash(exit.cause)), Cause.pretty(exit.cause))
      }
    })
  )

  it.effect("says that Node's fetch waits no longer, where that is why there is no answer, and what does", () =>
    Effect.gen(function* () {
      const code = "UND_ERR_HEADERS_TIMEOUT"
      const cause = new TypeError("fetch failed", {
        cause: Object.assign(new Error("Headers Timeout Error"), { code })
      })
      const impatient = HttpClient.make((request) =>
        Effect.fail(
          new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request, cause }) })
        )
      )
      const error = yield* LanguageModel.generateText({ prompt: "Hi" }).pipe(
        Effect.provide(layer("http://127.0.0.1:9/v1", { retry: { times: 0 } })),
        Effect.provideService(HttpClient.HttpClient, impatient),
        Effect.flip
      )
      assert.strictEqual(error.reason._tag, "NetworkError")
      assert.match(
        error.message,
        /no answer within the 5 minutes that Node's fetch waits .*NodeHttpClient.layerNodeHttp/
      )
    })
  )

  it.effect("says by the system's name what keeps a server out of reach", () =>
    Effect.gen(function* () {
      const retry = { times: 0 }
      const refused = yield* generate("http://127.0.0.1:6000/v1", { retry }).pipe(Effect.flip)
      assert.include(
        refused.message,
        "127.0.0.1:6000 cannot be reached or the request cannot be sent (a port that fetch"
      )
      const { error, url } = yield* ask((response) => response.socket?.destroy(), { retry })
      assert.include(error?.message, "cannot be sent (UND_ERR_SOCKET)")
      const secured = yield* generate(url.replace("http:", "https:"), { retry }).pipe(Effect.flip)
      assert.match(secured.message, /cannot be sent \([A-Z_]+\) \(model "fake"\); check the base URL/)
    })
  )

  it.effect("leaves a placeholder for a key in answers, where it is a word like others", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(good)
      const { text } = yield* generate(server.url, {}, "Hello")
      assert.strictEqual(text, "Hello.")
    })
  )

  it.effect("leaves a server alone that is down, and tries it again after the pause", () =>
    Effect.gen(function* () {
      const { error, asked } = yield* ask(FakeServer.json(refused("oops"), 500), { breaker: { failures: 2 } })
      assert.strictEqual(asked, 2)
      assert.include(error?.message, "left alone for a while")

      const down = FakeServer.json(refused("oops"), 500)
      const server = yield* FakeServer.start(FakeServer.script(down, down, good))
      const options: Endpoint.Options = {
        retry: { times: 0 },
        timeout: "10 hours",
        breaker: { failures: 2, pause: "1 minute" }
      }
      const one = LanguageModel.generateText({ prompt: "Hi" })
      const { exit } = yield* FakeServer.drive(
        Effect.gen(function* () {
          const tags: Array<string | undefined> = []
          for (let i = 0; i < 4; i++) tags.push((yield* Effect.flip(one)).reason._tag)
          yield* Effect.sleep("1 minute")
          return { tags, text: (yield* one).text }
        }).pipe(Effect.provide(layer(server.url, options)), Effect.provide(FetchHttpClient.layer)),
        1
      )
      assert.deepStrictEqual(Exit.isSuccess(exit) ? exit.value : undefined, {
        tags: ["InternalProviderError", "InternalProviderError", "UnknownError", "UnknownError"],
        text: "Hello."
      })
      assert.strictEqual(server.asked.length, 3)
    })
  )
})
