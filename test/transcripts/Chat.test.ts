import { assert, describe, it } from "@effect/vitest"
import { Transcript } from "../../src/index.ts"
import { choice, critique, prompt } from "./Fixture.ts"

const { chat } = Transcript

describe("chat", () => {
  it("puts requests as further turns of the human", () => {
    assert.deepStrictEqual(chat.response(prompt).context, { messages: prompt.messages })
    const rendered = chat.revision(critique, "RR").context
    assert.isObject(rendered)
    const { messages } = rendered as { messages: ReadonlyArray<{ role: string; content: string }> }
    assert.deepStrictEqual(
      messages.map(({ role, content }) => [role, content.split("\n")[0]]),
      [
        ["user", "Hi"],
        ["assistant", "Hello"],
        ["user", "P"],
        ["assistant", "R"],
        ["user", "CR"],
        ["assistant", "C"],
        ["user", "RR"]
      ]
    )
  })

  it("begins the judge's answer for it", () => {
    const { context } = chat.choice(choice)
    assert.deepInclude(context, { prefix: "The answer is:" })
  })

  it("learns the answer as it is", () => assert.strictEqual(chat.completion("R"), "R"))
})
