import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Sample, Transcript } from "../src/index.ts"

const { chat, humanAssistant } = Transcript

const prompt = Sample.prompt([
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "P" }
])
const response = Sample.response({ prompt, text: "R", model: "m", seed: 0, index: 0 })
const critique = Sample.critique({ response, principle: "p", request: "CR", text: "C", round: 1, model: "m" })
const choice = { prompt, request: "CMP", answers: ["one", "two"] } as const

const conversation = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: P"

describe("humanAssistant", () => {
  it("keeps the roles of the conversation and ends after a colon", () => {
    assert.strictEqual(humanAssistant.response(prompt).context, `${conversation}\n\nAssistant:`)
    assert.strictEqual(
      humanAssistant.critique(response, "CR").context,
      `${conversation}\n\nAssistant: R\n\nCritiqueRequest: CR\n\nCritique:`
    )
    assert.strictEqual(
      humanAssistant.revision(critique, "RR").context,
      `${conversation}\n\nAssistant: R\n\nCritiqueRequest: CR\n\nCritique: C\n\nRevisionRequest: RR\n\nRevision:`
    )
  })

  it("asks for one of two options", () => {
    const { context, options } = humanAssistant.choice(choice)
    assert.strictEqual(
      context,
      "Consider the following conversation between a human and an assistant:" +
        `${conversation}\n\nCMP\n\nOptions:\n(A) one\n(B) two\n\nThe answer is:`
    )
    assert.deepStrictEqual(options, [" (A)", " (B)"])
  })

  it("learns the answer with the space that the context leaves out", () => {
    assert.strictEqual(humanAssistant.completion("R"), " R")
    assert.deepStrictEqual(Transcript.example(humanAssistant, response), {
      id: response.id,
      context: `${conversation}\n\nAssistant:`,
      completion: " R"
    })
  })

  it("puts worked examples first", () => {
    const fewShot = { revision: "\n\nHuman: E\n\nAssistant: F\n", comparison: "Example\n" }
    assert.strictEqual(
      humanAssistant.critique(response, "CR", fewShot).context,
      `\n\nHuman: E\n\nAssistant: F${conversation}\n\nAssistant: R\n\nCritiqueRequest: CR\n\nCritique:`
    )
    assert.match(String(humanAssistant.choice(choice, fewShot).context), /^Example\n\nConsider the following/)
  })

  it("stops before the next turn", () => {
    const { stop } = humanAssistant.response(prompt)
    for (const turn of ["Human", "Assistant", "CritiqueRequest", "RevisionRequest"])
      assert.include(stop, `\n\n${turn}:`)
  })
})

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

describe("clean", () => {
  it.effect("trims, and never cuts at a colon", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* Transcript.clean("  Answer: first: this.\n\nThen: that.  "),
        "Answer: first: this.\n\nThen: that."
      )
    })
  )

  it.effect("does not take an empty answer", () =>
    Effect.gen(function* () {
      const error = yield* Transcript.clean(" \n", "critique").pipe(Effect.flip)
      assert.strictEqual(error._tag, "UnusableAnswer")
      assert.include(error.message, "critique")
    })
  )
})
