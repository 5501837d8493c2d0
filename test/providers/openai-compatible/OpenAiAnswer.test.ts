import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema } from "effect"
import { Decision, DecisionModel } from "effect/ai"
import type { AiError } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { Response, Sampling } from "../../../src/index.ts"
import type * as Retry from "../../../src/providers/http/Retry.ts"
import { Budget, Usage } from "../../../src/providers/http/index.ts"
import {
  OpenAiClient,
  OpenAiDecisionModel,
  OpenAiLanguageModel
} from "../../../src/providers/openai-compatible/index.ts"
import * as OpenAiAnswer from "../../../src/providers/openai-compatible/OpenAiAnswer.ts"
import { prompt } from "../../stages/Fixture.ts"
import * as FakeServer from "../http/FakeServer.ts"

const usage = { prompt_tokens: 10, completion_tokens: 4 }

const models = (baseUrl: string, abilities: OpenAiClient.Abilities = {}, retry: Retry.Options = { times: 0 }) =>
  Layer.merge(OpenAiLanguageModel.layer, OpenAiDecisionModel.layer()).pipe(
    Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", retry, ...abilities })),
    Layer.provide(FetchHttpClient.layer)
  )

const definition = Decision.make({
  input: Schema.String,
  decisions: { choice: Decision.classify({ instructions: "Which?", criteria: { A: "one", B: "two" } }) }
})

/** Asks for a choice between (A) and (B), with `/completions` or with `/chat/completions`. */
const decide = (baseUrl: string, literal: OpenAiClient.Abilities["literal"]) =>
  DecisionModel.decide(definition, { input: "Which?" }).pipe(
    Effect.provideService(Sampling.Sampling, {
      id: "p/0/1/preference/1",
      seed: 1,
      maxTokens: 64,
      temperature: 1,
      stop: [],
      options: [" (A)", " (B)"],
      context: "Which? The answer is:"
    }),
    Effect.provide(models(baseUrl, { literal }))
  )

type Top = Readonly<Record<string, number>>

/** One token that was written, with the likeliest ones at its place if the server lists them. */
const inCompletion = (token: string, logprob: number, top?: Top) => ({
  choices: [
    {
      text: token,
      finish_reason: "length",
      logprobs: { tokens: [token], token_logprobs: [logprob], ...(top === undefined ? {} : { top_logprobs: [top] }) }
    }
  ],
  usage
})

const inChat = (token: string, logprob: number, top?: Top) => ({
  choices: [
    {
      message: { content: token },
      finish_reason: "length",
      logprobs: {
        content: [
          {
            token,
            logprob,
            ...(top === undefined
              ? {}
              : { top_logprobs: Object.entries(top).map(([token, logprob]) => ({ token, logprob })) })
          }
        ]
      }
    }
  ],
  usage
})

const endpoints = [
  ["completions", inCompletion, "complete"],
  ["chat", inChat, "ask"]
] as const

describe.each(endpoints)("the choice of a judge by %s", (_, answer, literal) => {
  it.effect("is none where it is about to write something else", () =>
    Effect.gen(function* () {
      const refusing = answer("I", -0.001, { I: -0.001, Sorry: -7, " A": -17 })
      const server = yield* FakeServer.start(FakeServer.json(refusing))
      const error: AiError.AiError = yield* Effect.flip(decide(server.url, literal))
      assert.strictEqual(error.reason._tag, "InvalidOutputError")
      assert.isFalse(error.isRetryable)
      assert.include(error.message, 'no option is among the likeliest tokens; the model wrote "I"')
    })
  )

  it.effect("is read where it would rather begin with other words, but has a choice", () =>
    Effect.gen(function* () {
      const wordy = answer("The", Math.log(0.9), { The: Math.log(0.9), A: Math.log(0.06), B: Math.log(0.02) })
      const server = yield* FakeServer.start(FakeServer.json(wordy))
      const { answers } = yield* decide(server.url, literal)
      assert.closeTo(answers.choice.probabilities.A, 0.75, 1e-9)
    })
  )

  it.effect("is not made of the one token that was written: the others have to be listed", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(
        FakeServer.script(FakeServer.json(answer("A", -0.4)), FakeServer.json(answer("A", -0.4, {})))
      )
      for (const _ of ["no list", "an empty one"]) {
        const error: AiError.AiError = yield* Effect.flip(decide(server.url, literal))
        assert.strictEqual(error.reason._tag, "InvalidRequestError")
        assert.include(error.message, 'gives no log-probabilities for "fake"')
      }
    })
  )

  it.effect("is read where tokens without a probability are listed, whose logarithm JSON has no number for", () =>
    Effect.gen(function* () {
      const top = { A: Math.log(0.75), B: Math.log(0.25), The: null } as unknown as Top
      const server = yield* FakeServer.start(FakeServer.json(answer("A", Math.log(0.75), top)))
      const { answers } = yield* decide(server.url, literal)
      assert.closeTo(answers.choice.probabilities.A, 0.75, 1e-9)
    })
  )

  it.effect("is missing in one comparison where nothing was written: that says nothing of the server", () =>
    Effect.gen(function* () {
      const nothing = { text: "", message: { content: null }, finish_reason: "stop", logprobs: null }
      const server = yield* FakeServer.start(FakeServer.json({ choices: [nothing], usage }))
      const error: AiError.AiError = yield* Effect.flip(decide(server.url, literal))
      assert.strictEqual(error.reason._tag, "InvalidOutputError")
      assert.include(error.message, '"fake" wrote nothing in place of a choice')
    })
  )

  it.effect("may be withheld by a content filter, with or without a text", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(
        FakeServer.json({ choices: [{ index: 0, finish_reason: "content_filter" }], usage })
      )
      const error: AiError.AiError = yield* Effect.flip(decide(server.url, literal))
      assert.strictEqual(error.reason._tag, "InvalidOutputError")
      assert.include(error.message, 'the content filter of "fake" withheld the choice')
    })
  )
})

describe("a text", () => {
  it.effect("that a content filter withheld is the failure of one sample", () =>
    Effect.gen(function* () {
      const withheld = { choices: [{ index: 0, finish_reason: "content_filter" }], usage }
      const server = yield* FakeServer.start(FakeServer.json(withheld))
      const error = yield* Effect.flip(Response.one(prompt).pipe(Effect.provide(models(server.url))))
      assert.strictEqual(error._tag, "UnusableAnswer")
      assert.include(error.message, "the content filter of the model's server withheld it")
    })
  )

  it.effect("is that of its parts, without what was thought", () =>
    Effect.gen(function* () {
      const content = [
        { type: "thinking", thinking: [{ type: "text", text: "Hm." }] },
        { type: "text", text: "Call " },
        { type: "text", text: "them." }
      ]
      const server = yield* FakeServer.start(FakeServer.json({ choices: [{ message: { content } }], usage }))
      const answer = yield* Response.one(prompt).pipe(Effect.provide(models(server.url, { literal: "ask" })))
      assert.strictEqual(answer.text, "Call them.")
    })
  )

  it.effect("that the server broke off is no answer, and is asked for again", () =>
    Effect.gen(function* () {
      const chat = (content: string, more: object) => FakeServer.json({ choices: [{ message: { content }, ...more }] })
      const broken = chat("Half an", { finish_reason: "error", error: { code: 502, message: "upstream is gone" } })
      const aborted = chat("Half an", { finish_reason: "abort" })
      const whole = chat("A whole one.", { finish_reason: "stop" })
      const server = yield* FakeServer.start(FakeServer.script(aborted, broken, whole, broken))
      const ask = (times: number) =>
        Response.one(prompt).pipe(
          Effect.provide(models(server.url, { literal: "ask" }, { times, first: "1 millis" })),
          TestClock.withLive
        )
      assert.strictEqual((yield* ask(2)).text, "A whole one.")
      const error = yield* Effect.flip(ask(0))
      assert.isTrue(error._tag === "AiError" && error.reason._tag === "NetworkError")
      assert.include(error.message, "broke off its answer: upstream is gone")
    })
  )

  it.effect("that goes on after a stop text has ended there by itself, however long the server went on", () =>
    Effect.gen(function* () {
      const text = " No.\n\nRevision: Yes, but"
      const server = yield* FakeServer.start(FakeServer.json({ choices: [{ text, finish_reason: "length" }], usage }))
      const answer = yield* Response.one(prompt).pipe(Effect.provide(models(server.url)))
      // The transcript has more stop texts than a server takes.
      assert.notInclude(server.asked[0]!.body.stop, "\n\nRevision:")
      assert.deepStrictEqual([answer.text, answer.finish], ["No.", "stop"])
    })
  )

  it.effect("without token counts takes what is estimated: a budget is kept all the same", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(
        FakeServer.json({ choices: [{ text: "a".repeat(60), finish_reason: "stop" }] })
      )
      const ask = Effect.exit(Response.one(prompt, { maxTokens: 40 }))
      const { exits, rows } = yield* Effect.gen(function* () {
        const exits = yield* Effect.replicateEffect(ask, 9)
        return { exits, rows: yield* (yield* Usage.Usage).rows }
      }).pipe(Effect.provide(models(server.url)), Effect.provide([Usage.layer, Budget.layer({ tokens: 150 })]))
      // The prompt is 62 letters with its quotes and line breaks, the answer 60: a third of each is tokens.
      assert.deepStrictEqual(rows[0]?.tokens.output, 20 * rows[0]!.calls)
      assert.isAbove(rows[0]?.tokens.input ?? 0, 15 * rows[0]!.calls)
      assert.isTrue(exits.some(Exit.isFailure))
      assert.isBelow(server.asked.length, 5)
    })
  )

  it.effect.each([-1000, 1e308, 2.5, "10", null])("with %j as a count of tokens takes what is estimated", (count) =>
    Effect.gen(function* () {
      const usage = { prompt_tokens: count, completion_tokens: count }
      const choices = [{ text: "a".repeat(60), finish_reason: "stop" }]
      const server = yield* FakeServer.start(FakeServer.json({ choices, usage }))
      const { rows, spent } = yield* Effect.gen(function* () {
        yield* Response.one(prompt, { maxTokens: 40 })
        return { rows: yield* (yield* Usage.Usage).rows, spent: yield* (yield* Budget.Budget).spent }
      }).pipe(Effect.provide(models(server.url)), Effect.provide([Usage.layer, Budget.layer({ tokens: 150 })]))
      assert.strictEqual(spent.output, 20)
      assert.isAbove(spent.input, 15)
      assert.deepStrictEqual(rows[0]?.tokens, spent)
    })
  )
})

describe("what is read of an answer", () => {
  const known = { model: "asked for", atMost: { input: 7, output: 9 } }
  const completion = (choice: object, more: object = {}) =>
    OpenAiAnswer.read(
      Schema.decodeUnknownSync(OpenAiAnswer.Completion)({ choices: [{ text: "ab", ...choice }], ...more }),
      known
    )
  const chat = (logprobs: unknown) =>
    OpenAiAnswer.read(
      Schema.decodeUnknownSync(OpenAiAnswer.Chat)({ choices: [{ message: { content: "a" }, logprobs }] }),
      known
    )

  it("are log-probabilities where there are any: null is a token, or a list, that has none", () => {
    const tokens = { tokens: ["a", "b"], token_logprobs: [null, -1] }
    const listed = completion({ logprobs: { ...tokens, top_logprobs: [null, { b: -1, c: null }] } })
    assert.deepStrictEqual(listed.positions, [
      { token: "a", logprob: undefined, top: [] },
      {
        token: "b",
        logprob: -1,
        top: [
          ["b", -1],
          ["c", -Infinity]
        ]
      }
    ])
    for (const more of [{}, { top_logprobs: null }, { top_logprobs: [] }]) {
      const { positions } = completion({ logprobs: { ...tokens, ...more } })
      assert.deepStrictEqual(
        positions?.map(({ top }) => top),
        [[], []]
      )
    }
  })

  it("are the same in chats, whose list of tokens may be null as well", () => {
    const top_logprobs = [
      { token: "a", logprob: -0.5 },
      { token: "b", logprob: null }
    ]
    assert.deepStrictEqual(chat({ content: [{ token: "a", logprob: -0.5, top_logprobs }] }).positions, [
      {
        token: "a",
        logprob: -0.5,
        top: [
          ["a", -0.5],
          ["b", -Infinity]
        ]
      }
    ])
    assert.deepStrictEqual(chat({ content: [{ token: "a", logprob: null, top_logprobs: null }] }).positions, [
      { token: "a", logprob: undefined, top: [] }
    ])
    assert.isUndefined(chat(null).positions)
    assert.isEmpty(chat({ content: null }).positions ?? [])
  })

  it("is the less likely of two for a token that the server read, in whatever order and place they stand", () => {
    const [own, best] = [
      { logprob: -2, decoded_token: "own" },
      { logprob: -1, decoded_token: "best" }
    ]
    const prompt_logprobs = [null, { 5: own, 7: best }, { 5: best, 7: own }, { 3: { logprob: 0, decoded_token: null } }]
    const expected = [
      { token: "", logprob: undefined, top: [] },
      { token: "own", logprob: -2, top: [] },
      { token: "own", logprob: -2, top: [] },
      { token: "", logprob: 0, top: [] }
    ]
    assert.deepStrictEqual(completion({ prompt_logprobs }).promptPositions, expected)
    assert.deepStrictEqual(completion({}, { prompt_logprobs }).promptPositions, expected)
    assert.isUndefined(completion({}, { prompt_logprobs: null }).promptPositions)
  })

  it("is how it ended, who wrote it and what it took, as far as the server says so", () => {
    const finish = (finish_reason: unknown) => completion({ finish_reason }).finish
    assert.deepStrictEqual(["length", "content_filter", "stop", "eos", null, undefined].map(finish), [
      "length",
      "content-filter",
      "stop",
      "stop",
      "stop",
      "stop"
    ])
    assert.strictEqual(completion({}).model, "asked for")
    assert.strictEqual(completion({}, { model: "gpt" }).model, "gpt")
    assert.deepStrictEqual(completion({}).tokens, { input: 7, output: 1 })
    assert.deepStrictEqual(completion({}, { usage: { prompt_tokens: 3, completion_tokens: 0 } }).tokens, {
      input: 3,
      output: 0
    })
  })
})
