import { readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { inspect } from "node:util"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, ExecutionPlan, Exit, Layer, Logger, Stream, Tracer } from "effect"
import { LanguageModel } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import { Critique, Preference, Response, Revision, Sample, Sampling, Stage, Transcript } from "../../../src/index.ts"
import { AnthropicClient, AnthropicLanguageModel } from "../../../src/providers/anthropic/index.ts"
import { AnswerCache, Budget, Estimate, Tokens, Usage } from "../../../src/providers/http/index.ts"
import {
  OpenAiClient,
  OpenAiDecisionModel,
  OpenAiLanguageModel
} from "../../../src/providers/openai-compatible/index.ts"
import { constitution, prompt } from "../../stages/Fixture.ts"
import * as FakeServer from "./FakeServer.ts"
import { workplace } from "../../workplace.ts"

const answering: FakeServer.Answer = (response, asked, n) =>
  FakeServer.json({
    model: "fake",
    choices: [
      {
        text: ` Answer ${n}.`,
        finish_reason: "stop",
        logprobs: asked.body.logprobs
          ? { tokens: ["A"], token_logprobs: [-0.1], top_logprobs: [{ A: -0.2, B: -1.8 }] }
          : null
      }
    ],
    usage: { prompt_tokens: 60, completion_tokens: 40 }
  })(response, asked, n)

const models = (baseUrl: string, options: Partial<OpenAiClient.Options> = {}) =>
  Layer.merge(OpenAiLanguageModel.layer, OpenAiDecisionModel.layer()).pipe(
    Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", ...options })),
    Layer.provide(FetchHttpClient.layer)
  )

const prompts = (n: number) => Array.from({ length: n }, (_, i) => Sample.prompt(`Question ${i}?`))

describe("a key", () => {
  const secret = "sk-a-secret-that-nobody-may-see"
  const env = (url: string, key: string) =>
    ConfigProvider.layer(
      ConfigProvider.fromUnknown({
        OPENAI_API_KEY: key,
        OPENAI_BASE_URL: url,
        OPENAI_MODEL: "fake",
        ANTHROPIC_API_KEY: key,
        ANTHROPIC_BASE_URL: url,
        ANTHROPIC_MODEL: "fake"
      })
    )
  const kinds = {
    openai: OpenAiLanguageModel.layer.pipe(Layer.provide(OpenAiClient.layerConfig({ retry: { times: 1, first: 1 } }))),
    anthropic: AnthropicLanguageModel.layer.pipe(
      Layer.provide(AnthropicClient.layerConfig({ retry: { times: 1, first: 1 } }))
    )
  }
  for (const [kind, layer] of Object.entries(kinds)) {
    it.live(`is sent to the server and shown nowhere else (${kind})`, () =>
      Effect.gen(function* () {
        const echoed: FakeServer.Answer = (response, asked, n) =>
          FakeServer.json({ error: { message: `bad key ${JSON.stringify(asked.headers)}` } }, 401)(response, asked, n)
        const server = yield* FakeServer.start(
          FakeServer.script(FakeServer.raw(`<p>${secret}</p>`), echoed, FakeServer.half)
        )
        const seen: Array<unknown> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            seen.push(span)
            return span
          }
        })
        const folder = workplace()
        const ask = (key: string) =>
          LanguageModel.generateText({ prompt: "Hi" }).pipe(
            Effect.tapCause((cause) => Effect.logError("failed", cause)),
            Effect.exit,
            Effect.provide(layer.pipe(Layer.provide(FetchHttpClient.layer), Layer.provide(env(server.url, key)))),
            Effect.provide(AnswerCache.layerFolder(folder)),
            Effect.provide(NodeServices.layer),
            Effect.provide(Logger.layer([Logger.make((log) => void seen.push(log))])),
            Effect.withTracer(tracer)
          )
        const exits = [yield* ask(secret), yield* ask(secret), yield* ask(`${secret}\u0000`)]
        assert.isTrue(exits.every(Exit.isFailure))
        assert.isAtLeast(server.asked.length, 2)
        assert.include(JSON.stringify(server.asked[0]!.headers), secret)

        const pretty = exits.map((exit) => (Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""))
        const shown = inspect({ exits, seen, pretty }, { depth: 12, showHidden: true, maxStringLength: null })
        assert.isAtLeast(seen.length, 3)
        // The client's request itself holds the header: it must be reachable from nothing that is kept.
        assert.notInclude(shown, secret)
        assert.notInclude(JSON.stringify([exits, pretty]), secret)
      })
    )
  }
})

describe("Budget", () => {
  const short = { ...Transcript.humanAssistant, response: () => ({ context: "Hi", stop: [] }) }
  const hosted = (baseUrl: string) => ({
    "anthropic, which is told to continue": AnthropicLanguageModel.layer.pipe(
      Layer.provide(AnthropicClient.layer({ baseUrl, model: "fake" })),
      Layer.provide(FetchHttpClient.layer)
    ),
    "openai's chat, which is told so too": models(baseUrl, { literal: "ask" })
  })
  it.effect.each(["anthropic, which is told to continue", "openai's chat, which is told so too"] as const)(
    "is kept for what a model is told besides the text as well: %s",
    (kind) =>
      Effect.gen(function* () {
        const server = yield* FakeServer.start(answering)
        // "Continue the text of the user exactly where it ends" alone has ten tokens.
        const refused = yield* Effect.flip(
          Response.one(prompt, { maxTokens: 10 }).pipe(
            Effect.provideService(Transcript.Transcript, short),
            Effect.provide(hosted(server.url)[kind]),
            Effect.provide(Budget.layer({ tokens: 20 }))
          )
        )
        assert.include(refused.message, "the budget of 20 (tokens) has 20 left")
        assert.deepStrictEqual(server.asked, [])
      })
  )

  it.live("refuses the call that could exceed it, before it is made (mistake 14)", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const budget = Budget.layer({ money: { limit: 0.025, price: { input: 100, output: 100 } } })
      const rejected: Array<Stage.Rejected> = []
      const done: Array<string> = []
      const error = yield* Stream.fromIterable(prompts(9)).pipe(
        Response.stage({ maxTokens: 40, concurrency: 1 }).pipe(
          Stage.rejectTo((sample) => Effect.sync(() => void rejected.push(sample)))
        ),
        Stream.runForEach(({ text }) => Effect.sync(() => void done.push(text))),
        Budget.guard,
        Effect.flip,
        Effect.provide(models(server.url)),
        Effect.provide(budget)
      )
      assert.instanceOf(error, Budget.BudgetExceeded)
      // A call takes 100 tokens, 0.01: the third one would end above 0.025.
      assert.deepStrictEqual([server.asked.length, done.length, rejected.length], [2, 2, 0])
      assert.strictEqual(error.unit, "money")
    })
  )

  it.live("lets the calls end that are under way, keeps their answers and then stops", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(
        (response, asked, n) => void setTimeout(() => answering(response, asked, n), 100)
      )
      let done = 0
      const rows = yield* Effect.gen(function* () {
        yield* Stream.fromIterable(prompts(9)).pipe(
          Response.stage({ maxTokens: 40, concurrency: 9 }),
          Stream.runForEach(() => Effect.sync(() => done++)),
          Budget.guard,
          Effect.flip
        )
        return yield* (yield* Usage.Usage).rows
      }).pipe(
        Effect.provide(models(server.url)),
        Effect.provide(Budget.layer({ tokens: 250 })),
        Effect.provide(Usage.layer)
      )
      assert.isAbove(server.asked.length, 1)
      assert.isBelow(server.asked.length, 9)
      assert.deepStrictEqual([done, rows[0]?.calls], [server.asked.length, server.asked.length])
    })
  )

  it.live("is the typed failure of a call outside a guard, and holds for calls at the same time", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const exits = yield* Effect.forEach(prompts(6), (one) => Effect.exit(Response.one(one, { maxTokens: 40 })), {
        concurrency: "unbounded"
      }).pipe(Effect.provide(models(server.url)), Effect.provide(Budget.layer({ tokens: 200 })))
      assert.isAtMost(server.asked.length, 3)
      const failed = exits.flatMap((exit) => (Exit.isFailure(exit) ? [Cause.squash(exit.cause) as never] : []))
      assert.strictEqual(Budget.fromAiError(failed[0]!)?.limit, 200)
      assert.include((failed[0]! as Error).message, "the budget of 200 (tokens)")
    })
  )
})

it.live("Usage counts by stage and principle, and Estimate the same calls before", () =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(answering)
    const program = Effect.all([
      Stream.fromIterable(prompts(2)).pipe(Response.stage(), Critique.stage(), Revision.stage(), Stream.runDrain),
      Stream.fromIterable(prompts(2)).pipe(Response.pair(), Preference.stage(), Stream.runDrain)
    ])
    const rows = yield* Effect.gen(function* () {
      // An estimate is no part of the accounts, wherever it is made.
      yield* Estimate.of(program)
      yield* program
      return yield* (yield* Usage.Usage).rows
    }).pipe(Effect.provide(models(server.url)), Effect.provide([Usage.layer, constitution]))
    const estimated = yield* Estimate.of(program).pipe(Effect.provide(constitution))

    const calls = (counted: ReadonlyArray<Usage.Row>) =>
      Object.fromEntries([...Usage.by(counted, "stage")].map(([stage, { calls }]) => [stage, calls]))
    assert.deepStrictEqual(calls(rows), { response: 6, critique: 2, revision: 2, preference: 4 })
    assert.deepStrictEqual(calls(estimated), calls(rows))
    assert.deepStrictEqual(Usage.by(rows, "stage").get("critique")!.tokens, { input: 120, output: 80 })
    // Principles by their ids: a round each of critique and revision, two orders of two comparisons.
    assert.deepStrictEqual(
      rows.map(({ stage, principle, calls }) => [stage, principle, calls]),
      [
        ["response", "", 6],
        ["critique", "kind", 2],
        ["revision", "kind", 2],
        ["preference", "kinder", 4]
      ]
    )
    const tokens = [...Usage.by(estimated, "model").values()][0]!.tokens
    assert.isAbove(Tokens.cost(tokens, { input: 1, output: 5 }), 0)
  })
)

it.live("AnswerCache: a hit makes no second request, another sample and a torn file do", () =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(answering)
    const folder = workplace()
    const asking = <A, E>(self: Effect.Effect<A, E, LanguageModel.LanguageModel>) =>
      self.pipe(
        Effect.provide(models(server.url)),
        Effect.provide(AnswerCache.layerFolder(folder)),
        Effect.provide(NodeServices.layer)
      )
    const [first, again, other] = yield* asking(
      Effect.all([Response.one(prompt), Response.one(prompt), Response.one(prompt, { index: 1 })])
    )
    assert.deepStrictEqual([again.text, server.asked.length], [first.text, 2])
    assert.notStrictEqual(other.text, first.text)

    // The folder outlives the process.
    assert.strictEqual((yield* asking(Response.one(prompt))).text, first.text)
    assert.strictEqual(server.asked.length, 2)
    for (const file of readdirSync(folder)) writeFileSync(join(folder, file), "{")
    yield* asking(Response.one(prompt))
    assert.strictEqual(server.asked.length, 3)
  })
)

it.effect("Limits: more requests than a minute has wait for the next", () =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(answering)
    const { exit, seconds } = yield* FakeServer.drive(
      Effect.forEach(prompts(4), (one) => Response.one(one), { concurrency: "unbounded" }).pipe(
        Effect.provide(models(server.url, { timeout: "10 hours", limits: { requestsPerMinute: 2 } }))
      ),
      5
    )
    assert.isTrue(Exit.isSuccess(exit))
    assert.strictEqual(server.asked.length, 4)
    assert.isAtLeast(seconds, 60)
  })
)

it.live("Limits: no more requests at the same time than there may be", () =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(
      (response, asked, n) => void setTimeout(() => answering(response, asked, n), 30)
    )
    yield* Effect.forEach(prompts(7), (one) => Response.one(one), { concurrency: "unbounded" }).pipe(
      Effect.provide(models(server.url, { limits: { concurrency: 2 } }))
    )
    assert.deepStrictEqual([server.asked.length, server.most()], [7, 2])
  })
)

it.effect("Limits: more tokens than a minute has wait as well", () =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(answering)
    const limits = { tokensPerMinute: 300 }
    const { exit, seconds } = yield* FakeServer.drive(
      Effect.forEach(prompts(4), (one) => Response.one(one, { maxTokens: 100 }), { concurrency: "unbounded" }).pipe(
        Effect.provide(models(server.url, { timeout: "10 hours", limits }))
      ),
      5
    )
    assert.isTrue(Exit.isSuccess(exit))
    assert.strictEqual(server.asked.length, 4)
    // Each call may take some 110 tokens: two fit into the first minute.
    assert.isAtLeast(seconds, 20)
  })
)

it.effect.each([
  [{ concurrency: 0 }, "limits.concurrency is 0; it is a whole number of 1 or more."],
  [{ concurrency: NaN }, "limits.concurrency is NaN; it is a whole number of 1 or more."],
  [{ requestsPerMinute: NaN }, "limits.requestsPerMinute is NaN; it is a number of 0 or more."],
  [{ tokensPerMinute: -1 }, "limits.tokensPerMinute is -1; it is a number of 0 or more."]
] as const)("Limits: %o are none", ([limits, said]) =>
  Effect.gen(function* () {
    const exit = yield* Effect.exit(Effect.provide(Effect.void, models("http://127.0.0.1:9/v1", { limits })))
    assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", said)
  })
)

it.effect.each([
  ["temperature", { temperature: NaN }],
  ["max_tokens", { maxTokens: Infinity }]
] as const)("a %s that is no number is not sent: a server would take its own default", ([name, options]) =>
  Effect.gen(function* () {
    const server = yield* FakeServer.start(answering)
    const error = yield* Effect.flip(Response.one(prompt, options).pipe(Effect.provide(models(server.url))))
    assert.include(error.message, `${name} is ${Object.values(options)[0]}, which cannot be sent; give a number`)
    assert.strictEqual(server.asked.length, 0)
  })
)

it.live("an ExecutionPlan falls back to another provider", () =>
  Effect.gen(function* () {
    const down = yield* FakeServer.start(FakeServer.json({ error: "down" }, 503))
    const up = yield* FakeServer.start(answering)
    const plan = ExecutionPlan.make(
      { provide: models(down.url, { retry: { times: 0 } }), attempts: 2 },
      { provide: models(up.url) }
    )
    const { text } = yield* Response.one(prompt).pipe(
      Effect.withExecutionPlan(plan),
      Effect.provideService(Sampling.Sampling, { id: "", seed: 0, maxTokens: 8, temperature: 1, stop: [] })
    )
    assert.deepStrictEqual([text, down.asked.length, up.asked.length], ["Answer 0.", 2, 1])
  })
)
