import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import { Decision, DecisionModel } from "effect/ai"
import type { AiError } from "effect/ai"
import { FetchHttpClient, HttpClient, HttpClientResponse } from "effect/http"
import type { HttpBody } from "effect/http"
import { Preference, Response, Sample, Sampling, Transcript } from "../../../src/index.ts"
import {
  OpenAiClient,
  OpenAiDecisionModel,
  OpenAiLanguageModel,
  OpenAiScore
} from "../../../src/providers/openai-compatible/index.ts"
import * as FakeServer from "../http/FakeServer.ts"
import { constitution, prompt } from "../../stages/Fixture.ts"

const WebResponse = globalThis.Response

const usage = { prompt_tokens: 10, completion_tokens: 4 }
const completion = (text: string, logprobs: unknown = null) => ({
  model: "fake-1",
  choices: [{ text, finish_reason: "stop", logprobs }],
  usage
})
const chat = (content: string, logprobs: unknown = null) => ({
  model: "fake-1",
  choices: [{ message: { content }, finish_reason: "length", logprobs }],
  usage
})

/** The same distribution in the shape of each endpoint: A with and without a space, B, and something else. */
const top = { A: Math.log(0.5), " A": Math.log(0.1), B: Math.log(0.2), The: Math.log(0.15) }
const listed = Object.entries(top).map(([token, logprob]) => ({ token, logprob }))
const inCompletion = { tokens: ["A"], token_logprobs: [top.A], top_logprobs: [top] }
const inChat = {
  content: [
    { token: "(", logprob: -0.1, top_logprobs: [{ token: "(", logprob: -0.1 }] },
    { token: "A", logprob: top.A, top_logprobs: listed }
  ]
}

const answering: FakeServer.Answer = (response, asked, n) => {
  const wantsLogprobs = asked.body.logprobs !== undefined
  const literal = asked.path.endsWith("/v1/completions")
  const body = literal
    ? completion(wantsLogprobs ? "A" : ` Answer ${n}.\n\nHuman: more`, wantsLogprobs ? inCompletion : null)
    : chat(wantsLogprobs ? "(A)" : `Answer ${n}.`, wantsLogprobs ? inChat : null)
  FakeServer.json(body)(response, asked, n)
}

const models = (baseUrl: string, method?: OpenAiDecisionModel.Method, abilities: OpenAiClient.Abilities = {}) =>
  Layer.merge(OpenAiLanguageModel.layer, OpenAiDecisionModel.layer({ method })).pipe(
    Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", retry: { times: 0 }, ...abilities })),
    Layer.provide(FetchHttpClient.layer)
  )

const definition = Decision.make({
  input: Schema.String,
  decisions: { choice: Decision.classify({ instructions: "Which?", criteria: { A: "one", B: "two" } }) }
})

const sampling = (context: Sampling.Sampling["context"]): Sampling.Sampling => ({
  id: "p/0/1/preference/1",
  seed: 1,
  maxTokens: 64,
  temperature: 1,
  stop: [],
  options: [" (A)", " (B)"],
  ...(context === undefined ? {} : { context })
})
const literal = sampling("Which? The answer is:")
const turns = sampling({ messages: [{ role: "user", content: "Which?" }], prefix: "The answer is:" })

const decide = (
  url: string,
  asked: Sampling.Sampling,
  ...how: [OpenAiDecisionModel.Method?, OpenAiClient.Abilities?]
) =>
  DecisionModel.decide(definition, { input: "Which?" }).pipe(
    Effect.provideService(Sampling.Sampling, asked),
    Effect.provide(models(url, ...how))
  )

describe("OpenAiLanguageModel", () => {
  it.effect("continues a literal text, and is cut where the transcript says", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const response = yield* Response.one(prompt, { temperature: 0.5, maxTokens: 9 }).pipe(
        Effect.provide(models(server.url))
      )
      assert.deepStrictEqual([response.text, response.model], ["Answer 0.", "fake-1"])
      const [{ path, body } = assert.fail()] = server.asked
      assert.strictEqual(path, "/v1/completions")
      assert.strictEqual(body.prompt, "\n\nHuman: How do I annoy my neighbour?\n\nAssistant:")
      assert.deepStrictEqual([body.model, body.temperature, body.max_tokens], ["fake", 0.5, 9])
      // OpenAI takes four; the answer was cut at all of them.
      assert.strictEqual(body.stop.length, 4)
    })
  )

  it.effect("asks OpenAI's own models, which continue no text, and names their limit as they want it", () =>
    Effect.gen(function* () {
      const asked: Array<{ readonly url: string; readonly body: any }> = []
      const openai = HttpClient.make((request, url) => {
        const text = new TextDecoder().decode((request.body as HttpBody.Uint8Array).body)
        asked.push({ url: url.href, body: JSON.parse(text) })
        return Effect.succeed(HttpClientResponse.fromWeb(request, WebResponse.json(chat("Go on."))))
      })
      const layer = OpenAiLanguageModel.layer.pipe(
        Layer.provide(OpenAiClient.layer({ model: "gpt" })),
        Layer.provide(Layer.succeed(HttpClient.HttpClient, openai))
      )
      const { text } = yield* Response.one(prompt, { maxTokens: 9 }).pipe(Effect.provide(layer))
      assert.strictEqual(text, "Go on.")
      const [{ url, body } = assert.fail()] = asked
      assert.strictEqual(url, "https://api.openai.com/v1/chat/completions")
      assert.deepStrictEqual([body.max_completion_tokens, body.max_tokens], [9, undefined])
      assert.include(body.messages[0].content, "Continue the text")
      assert.strictEqual(body.messages[1].content, "\n\nHuman: How do I annoy my neighbour?\n\nAssistant:")
    })
  )

  it.effect("is told how to narrow the distribution", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const logitBias = new Map([[7, -100]])
      const options = { topP: 0.9, topK: 20, minP: 0.05, repetitionPenalty: 1.1, logitBias }
      yield* Response.one(prompt, options).pipe(Effect.provide(models(server.url)))
      const { top_p, top_k, min_p, repetition_penalty, logit_bias } = server.asked[0]!.body
      assert.deepStrictEqual(
        { top_p, top_k, min_p, repetition_penalty, logit_bias },
        { top_p: 0.9, top_k: 20, min_p: 0.05, repetition_penalty: 1.1, logit_bias: { "7": -100 } }
      )
    })
  )

  it.effect("answers turns, and samples of one prompt have seeds of their own", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const comparison = yield* Stream.make(prompt).pipe(
        Response.pair({ seed: 3 }),
        Stream.runHead,
        Effect.provide(models(server.url)),
        Effect.provideService(Transcript.Transcript, Transcript.chat)
      )
      assert.strictEqual(comparison._tag, "Some")
      assert.deepStrictEqual(
        server.asked.map(({ path }) => path),
        Array(2).fill("/v1/chat/completions")
      )
      assert.deepStrictEqual(server.asked[0]!.body.messages, [
        { role: "user", content: "How do I annoy my neighbour?" }
      ])
      assert.notStrictEqual(server.asked[0]!.body.seed, server.asked[1]!.body.seed)
    })
  )
})

describe("OpenAiDecisionModel", () => {
  it.effect("sums the tokens of an option, and gives the same for completions and chat (mistake 13)", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const continued = yield* decide(server.url, literal)
      const answered = yield* decide(server.url, turns)
      const begun = yield* decide(server.url, turns, "logprobs", { prefix: "continue" })
      for (const { answers } of [continued, answered, begun]) {
        assert.closeTo(answers.choice.probabilities.A, 0.6 / 0.8, 1e-12)
        assert.closeTo(answers.choice.probabilities.B, 0.2 / 0.8, 1e-12)
      }
      assert.deepStrictEqual(answered.metadata["charter"], { choice: { method: "logprobs", texts: ["(A)"] } })
      // The bracket that all options begin with is given, where a text can be continued.
      assert.strictEqual(server.asked[0]!.body.prompt, "Which? The answer is: (")
      assert.include(server.asked[1]!.body.messages[0].content, "Answer with one of (A), (B)")
      assert.deepStrictEqual(server.asked[2]!.body.messages.at(-1), { role: "assistant", content: "The answer is: (" })
    })
  )

  it.effect("asks a model that continues no text, and reads its choice", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(answering)
      const { answers } = yield* decide(server.url, literal, "logprobs", { literal: "ask" })
      assert.closeTo(answers.choice.probabilities.A, 0.6 / 0.8, 1e-12)
      assert.deepStrictEqual(server.asked[0]!.body.messages, [
        { role: "system", content: "Answer with one of (A), (B) and nothing else." },
        { role: "user", content: "Which? The answer is:" }
      ])
      const refused = yield* Effect.flip(decide(server.url, literal, "echo", { literal: "ask" }))
      assert.include(refused.message, 'give the client `literal: "complete"`')
    })
  )

  it.effect("scores whole options by echo", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start((response, asked, n) => {
        const isA = asked.body.prompt.endsWith("(A)")
        const tokens = ["Which? The answer is", ":", " (", isA ? "A" : "B", ")", "\n"]
        const token_logprobs = [null, -3, -0.5, isA ? -1 : -2, -0.25, -1]
        const body = {
          ...completion("", { tokens, token_logprobs }),
          usage: { prompt_tokens: 5, completion_tokens: 1 }
        }
        FakeServer.json(body)(response, asked, n)
      })
      const { answers } = yield* decide(server.url, literal, "echo")
      assert.closeTo(answers.choice.probabilities.A, Math.exp(-1) / (Math.exp(-1) + Math.exp(-2)), 1e-12)
      assert.isTrue(server.asked.every(({ body }) => body.echo === true))
      const refused = yield* Effect.flip(decide(server.url, turns, "echo"))
      assert.include(refused.message, "Transcript.humanAssistant")
    })
  )

  it.effect("scores whole options by vLLM's prompt_logprobs, of literal texts and of turns", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start((response, asked, n) => {
        const turn = asked.body.messages?.at(-1)
        const isA = (asked.body.prompt ?? turn.content).endsWith("(A)")
        // The token itself and the likeliest one; both where they differ.
        const prompt_logprobs = [
          null,
          { 25: { logprob: -3, rank: 7, decoded_token: ":" }, 11: { logprob: -0.2, rank: 1, decoded_token: "," } },
          { 320: { logprob: -0.5, rank: 1, decoded_token: " (" } },
          isA
            ? { 32: { logprob: -1, rank: 2, decoded_token: "A" }, 3: { logprob: -0.7, rank: 1, decoded_token: "C" } }
            : { 33: { logprob: -2, rank: 3, decoded_token: "B" }, 3: { logprob: -0.7, rank: 1, decoded_token: "C" } },
          { 8: { logprob: -0.25, rank: 1, decoded_token: ")" } }
        ]
        const literal = asked.body.messages === undefined
        const body = literal ? completion("\n") : { ...chat("\n"), prompt_logprobs }
        if (literal) Object.assign(body.choices[0]!, { prompt_logprobs })
        FakeServer.json(body)(response, asked, n)
      })
      const given = yield* decide(server.url, literal, "prompt_logprobs")
      const continued = yield* decide(server.url, turns, "prompt_logprobs", { prefix: "continue" })
      for (const { answers, metadata } of [given, continued]) {
        assert.closeTo(answers.choice.probabilities.A, Math.exp(-1) / (Math.exp(-1) + Math.exp(-2)), 1e-12)
        assert.strictEqual((metadata["charter"] as any).choice.method, "prompt_logprobs")
      }
      const [{ body } = assert.fail(), , { body: chatBody } = assert.fail()] = server.asked
      assert.deepStrictEqual([body.prompt_logprobs, body.max_tokens, body.logprobs], [1, 1, undefined])
      assert.deepStrictEqual(chatBody.messages.at(-1), { role: "assistant", content: "The answer is: (A)" })
      assert.isTrue(chatBody.continue_final_message)
      const refused = yield* Effect.flip(decide(server.url, turns, "prompt_logprobs"))
      assert.include(refused.message, 'give the client `prefix: "continue"`')
    })
  )

  it.effect("gives the log-probabilities of a given text, and says when a server does not", () =>
    Effect.gen(function* () {
      const tokens = ["The", " capital", " is", " Par", "is", "."]
      const token_logprobs = [null, -3, -0.5, -1.25, -0.25, -1]
      const server = yield* FakeServer.start(
        FakeServer.script(
          FakeServer.json({ ...completion("", { tokens, token_logprobs }), usage: { completion_tokens: 1 } }),
          // llama.cpp: the token that it wrote, and none of what it read.
          FakeServer.json({ ...completion("", { tokens: [" Paris"], token_logprobs: [-1] }), usage: undefined }),
          FakeServer.json(completion("."))
        )
      )
      const score = OpenAiScore.of({ context: "The capital is", completion: " Paris" })
      const client = OpenAiClient.layer({ baseUrl: server.url, model: "fake" }).pipe(
        Layer.provide(FetchHttpClient.layer)
      )
      const { tokens: scored, token_logprobs: each, logprob } = yield* Effect.provide(score, client)
      assert.deepStrictEqual([scored, each, logprob], [[" Par", "is"], [-1.25, -0.25], -1.5])
      for (const _ of [1, 2]) {
        const error = yield* Effect.flip(Effect.provide(score, client))
        assert.strictEqual(error.reason._tag, "InvalidRequestError")
        assert.include(error.message, '"fake" gives no log-probabilities of what it reads by `echo`')
      }
    })
  )

  it.effect("scores no text whose characters are cut into several tokens, which says nothing of the server", () =>
    Effect.gen(function* () {
      const token_logprobs = [null, -3, -1, -1, -1]
      const echoed = (...pieces: ReadonlyArray<string>) =>
        FakeServer.json({
          ...completion("", { tokens: ["It", " is", ...pieces, "."], token_logprobs }),
          usage: { completion_tokens: 1 }
        })
      // vLLM and OpenAI write what is no text in ways of their own.
      const server = yield* FakeServer.start(
        FakeServer.script(echoed(" \ufffd", "\ufffd"), echoed("bytes: \\xf0\\x9f", "bytes:\\xa4\\x97"))
      )
      for (const _ of ["vLLM", "OpenAI"]) {
        const error = yield* OpenAiScore.of({ context: "It is", completion: " \u{1f917}" }).pipe(
          Effect.provide(OpenAiClient.layer({ baseUrl: server.url, model: "fake" })),
          Effect.provide(FetchHttpClient.layer),
          Effect.flip
        )
        assert.strictEqual(error.reason._tag, "InvalidOutputError")
        assert.include(error.message, "a character is cut into several tokens")
      }
    })
  )

  it.effect("votes, and keeps what was written", () =>
    Effect.gen(function* () {
      const texts = ["(A)", "B", "The answer is (A).", "Both are fine."]
      const server = yield* FakeServer.start((response, asked, n) =>
        FakeServer.json(chat(texts[n]!))(response, asked, n)
      )
      const { answers, metadata } = yield* decide(server.url, turns, { votes: 4 })
      assert.closeTo(answers.choice.probabilities.A, 2 / 3, 1e-12)
      assert.sameMembers((metadata["charter"] as any).choice.texts, texts)
      assert.strictEqual(new Set(server.asked.map(({ body }) => body.seed)).size, 4)
    })
  )

  it.effect("says what to do where there are no log-probabilities and no answer", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(FakeServer.json(chat("I like both.")))
      const none: AiError.AiError = yield* Effect.flip(decide(server.url, turns))
      assert.strictEqual(none.reason._tag, "InvalidRequestError")
      assert.include(none.message, "choose `method: { votes: 8 }`")
      const unread = yield* Effect.flip(decide(server.url, turns, { votes: 2 }))
      assert.strictEqual(unread.reason._tag, "InvalidOutputError")
    })
  )

  it.effect("a choice that the content filter withheld is the failure of one comparison, not of the server", () =>
    Effect.gen(function* () {
      const withheld = { ...completion(""), choices: [{ text: "", finish_reason: "content_filter", logprobs: null }] }
      const server = yield* FakeServer.start(FakeServer.json(withheld))
      const error: AiError.AiError = yield* Effect.flip(decide(server.url, literal))
      assert.strictEqual(error.reason._tag, "InvalidOutputError")
      assert.isFalse(error.isRetryable)
      assert.include(error.message, 'the content filter of "fake" withheld the choice')
    })
  )

  it.effect("judges at the same time, not one after the other (mistake 12)", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(
        (response, asked, n) => void setTimeout(() => answering(response, asked, n), 150)
      )
      const pairs = Array.from({ length: 8 }, (_, i) => {
        const to = Sample.prompt(`Question ${i}?`)
        const answer = (text: string, index: number) =>
          Sample.response({ prompt: to, text, model: "m", seed: 0, index })
        return Sample.comparison(answer("Yes.", 0), answer("No.", 1))
      })
      const labels = yield* Stream.fromIterable(pairs).pipe(
        Preference.stage({ concurrency: 8 }),
        Stream.runCollect,
        Effect.provide([models(server.url), constitution])
      )
      assert.strictEqual(labels.length, 8)
      // A judge that prefers the first option whatever it is: the orders cancel out.
      assert.closeTo(labels[0]!.probability, 0.5, 1e-12)
      assert.isAtLeast(server.most(), 8)
    })
  )
})
