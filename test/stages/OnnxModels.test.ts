import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { LanguageModel, Prompt } from "effect/ai"
import { Critique, Preference, Response, Sample, Transcript } from "../../src/index.ts"
import * as OnnxDecisionModel from "../../src/providers/onnx/OnnxDecisionModel.ts"
import * as OnnxLanguageModel from "../../src/providers/onnx/OnnxLanguageModel.ts"
import { MockPolicy } from "../../src/testing/index.ts"
import { answer, constitution, prompt } from "./Fixture.ts"

describe("OnnxLanguageModel", () => {
  it.effect("hands the stage's literal transcript and sampling to the policy, unchanged", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ sample: " It is rude.", model: "small" })
      const critique = yield* Critique.one(answer("Play the drums."), {
        seed: 5,
        maxTokens: 40,
        temperature: 0.7
      }).pipe(Effect.provide([OnnxLanguageModel.fromPolicy(policy.service), constitution]))
      assert.strictEqual(critique.model, "small")
      const { context, stop } = Transcript.humanAssistant.critique(answer("Play the drums."), "Say what is unkind.")
      assert.deepStrictEqual(policy.samples, [
        { id: `${prompt.id}/0/critique/1`, context, stop, seed: 5, maxTokens: 40, temperature: 0.7 }
      ])
    })
  )

  it.effect("puts messages through the model's template outside of stages", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ sample: "Hello" })
      const { text } = yield* LanguageModel.generateText({ prompt: "Hi" }).pipe(
        Effect.provide(OnnxLanguageModel.layer.pipe(Layer.provide(policy.layer)))
      )
      assert.strictEqual(text, "Hello")
      assert.deepStrictEqual(policy.samples[0]!.context, { messages: [{ role: "user", content: "Hi" }] })
    })
  )

  it.effect("reads text only, and names a part that is none", () =>
    Effect.gen(function* () {
      const thought = Prompt.make([
        { role: "user", content: "2+2?" },
        {
          role: "assistant",
          content: [Prompt.makePart("reasoning", { text: "Hm" }), Prompt.makePart("text", { text: "4" })]
        },
        { role: "user", content: "3+3?" }
      ])
      const error = yield* LanguageModel.generateText({ prompt: thought }).pipe(
        Effect.provide(OnnxLanguageModel.fromPolicy(MockPolicy.make().service)),
        Effect.flip
      )
      assert.include(
        error.message,
        "this provider reads text only; leave parts of the type reasoning out of the prompt"
      )
    })
  )

  it.effect("turns a policy's failure into one that effect/ai knows", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ failOn: [1] })
      const error = yield* Response.one(prompt).pipe(
        Effect.provide(OnnxLanguageModel.fromPolicy(policy.service)),
        Effect.flip
      )
      assert.strictEqual(error._tag, "AiError")
      assert.include(error.message, "scripted to fail")
    })
  )
})

describe("OnnxDecisionModel", () => {
  const pair = Sample.comparison(answer("Talk.", 0), answer("Drums.", 1))

  it.effect("judges by the normalised log-probabilities of the options", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ choose: () => [Math.log(0.06), Math.log(0.02)], model: "judge" })
      const preference = yield* Preference.one(pair, { orders: "first" }).pipe(
        Effect.provide([OnnxDecisionModel.fromPolicy(policy.service), constitution])
      )
      assert.closeTo(preference.probability, 0.75, 1e-12)
      assert.strictEqual(preference.model, "judge")
      const { context } = Transcript.humanAssistant.choice({
        prompt,
        request: "Choose the kinder response.",
        answers: ["Talk.", "Drums."]
      })
      assert.deepStrictEqual(policy.choices[0], {
        id: `${prompt.id}/0/1/preference/1`,
        context,
        options: [" (A)", " (B)"]
      })
    })
  )

  it.effect("gives the soft label of the reference within 1e-3, from its log-probabilities", () =>
    Effect.gen(function* () {
      const fixture = new URL("../fixtures/smollm2.json", import.meta.url)
      const { logprobs, probabilities } = JSON.parse(readFileSync(fixture, "utf8")).choice
      const policy = MockPolicy.make({ choose: () => logprobs })
      const preference = yield* Preference.one(pair, { orders: "first" }).pipe(
        Effect.provide([OnnxDecisionModel.fromPolicy(policy.service), constitution])
      )
      assert.closeTo(preference.probability, probabilities[0], 1e-3)
    })
  )

  it("does not overflow on log-probabilities of long options", () => {
    assert.deepStrictEqual(OnnxDecisionModel.softmax([-2000, -2000]), [0.5, 0.5])
    assert.deepStrictEqual(OnnxDecisionModel.softmax([0, -Infinity]), [1, 0])
  })
})
