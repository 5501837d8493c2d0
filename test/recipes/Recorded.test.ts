import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { OpenAiClient, OpenAiLanguageModel } from "../../src/providers/openai-compatible/index.ts"
import * as Feedback from "../../src/recipes/Feedback.ts"
import * as FakeServer from "../providers/http/FakeServer.ts"
import { workplace } from "../workplace.ts"
import { models, runIn } from "./Fixture.ts"
import * as World from "./World.ts"

const fine = (text: string) =>
  FakeServer.json({
    choices: [{ text, finish_reason: "stop" }],
    usage: { prompt_tokens: 20, completion_tokens: 10 }
  })

const odd = {
  "another shape": FakeServer.json({ choices: [] }),
  "a 404": FakeServer.json({ error: { message: "gone" } }, 404),
  "a content filter's, without a text": FakeServer.json({ choices: [{ finish_reason: "content_filter" }] })
}

/** A run whose critic is the server at this address. */
const run = (dir: string, baseUrl: string) =>
  runIn(dir, models()).pipe(
    Effect.provide(
      Feedback.layerCritic(
        "hosted",
        OpenAiLanguageModel.layer.pipe(
          Layer.provide(OpenAiClient.layer({ baseUrl, model: "fake" })),
          Layer.provide(FetchHttpClient.layer)
        )
      )
    )
  )

describe("an odd answer of a hosted model", () => {
  it.live.each(Object.entries(odd))("among others is the failure of one sample: %s", ([, answer]) =>
    Effect.gen(function* () {
      const dir = workplace()
      const server = yield* FakeServer.start((response, asked, n) => {
        const refused = asked.body.prompt.includes("harmful question 2")
        ;(refused ? answer : fine(`Criticism ${n}.`))(response, asked, n)
      })
      const summary = yield* run(dir, server.url)
      const rejected = World.rows(dir, "rejected.jsonl")
      assert.isAbove(rejected.length, 0)
      assert.isTrue(rejected.every(({ stage, reason }) => stage === "critique" && reason !== ""))
      assert.strictEqual(summary.counts["responses"], 10)
    })
  )

  it.live("that is the only kind ends the run, and nothing is rejected", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const server = yield* FakeServer.start(odd["a 404"])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(run(dir, server.url))))
      assert.deepStrictEqual(World.rows(dir, "rejected.jsonl"), [])
    })
  )
})
