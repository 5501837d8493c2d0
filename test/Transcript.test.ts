import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { Transcript } from "../src/index.ts"
import { prompt } from "./transcripts/Fixture.ts"

const { humanAssistant } = Transcript

describe("clean", () => {
  it.effect("trims, and never cuts at a colon", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* Transcript.clean("  Answer: first: this.\n\nThen: that.  "),
        "Answer: first: this.\n\nThen: that."
      )
    })
  )

  it.effect("cuts where the transcript says", () =>
    Effect.gen(function* () {
      const { stop } = humanAssistant.response(prompt)
      const text = " Two ways: first: talk.\n\nHuman: And then?\n\nAssistant: ..."
      assert.strictEqual(yield* Transcript.clean(text, "response", stop), "Two ways: first: talk.")
      // A stop text at the beginning leaves nothing.
      const error = yield* Transcript.clean("\n\nHuman: And then?", "response", stop).pipe(Effect.flip)
      assert.include(error.message, "begins with a stop text")
    })
  )

  it("cuts at the first of the stop texts, and leaves every other text whole", () => {
    const stop = ["\n\nHuman:", "\n\nPrompt:"]
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(...stop), fc.string(), (before, at, after) => {
        fc.pre(!stop.some((text) => `${before}${at.slice(0, -1)}`.includes(text)))
        assert.strictEqual(Transcript.cut(`${before}${at}${after}`, stop), before)
        assert.strictEqual(Transcript.cut(before, stop), before)
      })
    )
  })

  it.effect("does not take an empty answer", () =>
    Effect.gen(function* () {
      const error = yield* Transcript.clean(" \n", "critique").pipe(Effect.flip)
      assert.strictEqual(error._tag, "UnusableAnswer")
      assert.include(error.message, "critique")
    })
  )
})
