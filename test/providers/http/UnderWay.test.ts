import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Response } from "../../../src/index.ts"
import * as UnderWay from "../../../src/providers/http/UnderWay.ts"
import { AnswerCache, Usage } from "../../../src/providers/http/index.ts"
import { OpenAiClient, OpenAiLanguageModel } from "../../../src/providers/openai-compatible/index.ts"
import { prompt } from "../../stages/Fixture.ts"
import * as FakeServer from "./FakeServer.ts"

/** Answers after a while, so that requests are under way at the same time. */
const slowly =
  (answer: FakeServer.Answer): FakeServer.Answer =>
  (response, asked, n) =>
    void setTimeout(() => answer(response, asked, n), 30)

const fine = slowly(
  FakeServer.json({
    choices: [{ text: "An answer.", finish_reason: "stop" }],
    usage: { prompt_tokens: 20, completion_tokens: 10 }
  })
)
const refused = slowly(FakeServer.json({ error: { message: "not this once" } }, 400))

const models = (baseUrl: string) =>
  OpenAiLanguageModel.layer.pipe(
    Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake", retry: { times: 0 } })),
    Layer.provide(FetchHttpClient.layer)
  )

describe("equal requests at the same time", () => {
  it.live("are one request, one payment and one answer", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(fine)
      const paid: Array<string> = []
      const answers = new Map<string, unknown>()
      const cache = Layer.succeed(AnswerCache.AnswerCache, {
        get: (key) => Effect.sync(() => answers.get(key)),
        set: (key, answer) =>
          Effect.sync(() => {
            paid.push(key)
            answers.set(key, answer)
          })
      })
      const { rows, texts } = yield* Effect.gen(function* () {
        const ask = Effect.all([Response.one(prompt), Response.one(prompt), Response.one(prompt, { index: 1 })], {
          concurrency: "unbounded"
        })
        const texts = (yield* ask).map(({ text }) => text)
        return { texts, rows: yield* (yield* Usage.Usage).rows }
      }).pipe(Effect.provide(models(server.url)), Effect.provide([cache, Usage.layer]))
      assert.deepStrictEqual(texts, Array(3).fill("An answer."))
      // Another sample of the prompt is another request.
      assert.strictEqual(server.asked.length, 2)
      assert.strictEqual(new Set(paid).size, paid.length)
      assert.deepStrictEqual([rows[0]?.calls, rows[0]?.cached, rows[0]?.tokens.output], [2, 1, 20])
    })
  )

  it.live("are asked again where the first fails", () =>
    Effect.gen(function* () {
      const server = yield* FakeServer.start(FakeServer.script(refused, fine))
      const exits = yield* Effect.forEach([1, 2, 3], () => Effect.exit(Response.one(prompt)), {
        concurrency: "unbounded"
      }).pipe(Effect.provide(models(server.url)), Effect.provide(AnswerCache.layerMemory))
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [false, true, true])
      assert.strictEqual(server.asked.length, 2)
    })
  )
})

describe("a key", () => {
  it.effect("is free again after success, failure and interruption, also of those that wait", () =>
    Effect.gen(function* () {
      const underWay = new Map<string, Deferred.Deferred<void>>()
      const alone = UnderWay.make(underWay)
      yield* alone("a")(Effect.void)
      yield* Effect.flip(alone("a")(Effect.fail("no")))
      assert.strictEqual(underWay.size, 0)

      const first = yield* Effect.forkChild(alone("a")(Effect.never))
      yield* Effect.yieldNow
      const waiting = yield* Effect.forkChild(alone("a")(Effect.succeed("never there")))
      const second = yield* Effect.forkChild(alone("a")(Effect.succeed("the second")))
      yield* alone("b")(Effect.void)
      assert.deepStrictEqual([...underWay.keys()], ["a"])
      yield* Fiber.interrupt(waiting)
      yield* Fiber.interrupt(first)
      assert.strictEqual(yield* Fiber.join(second), "the second")
      assert.strictEqual(underWay.size, 0)
    })
  )
})
