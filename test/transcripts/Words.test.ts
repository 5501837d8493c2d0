import { assert, describe, it } from "@effect/vitest"
import { Sample, Transcript } from "../../src/index.ts"
import { choice, conversation, critique } from "./Fixture.ts"

const { chat, humanAssistant, plain } = Transcript

/** Worked examples of a comparison, which each transcript puts into its own words. */
const examples = {
  comparison: [
    { prompt: "P1", chosen: "good", rejected: "bad" },
    { prompt: [{ role: "user", content: "P2" }], chosen: "fine", rejected: "foul" }
  ]
} as const

describe("worked examples of a comparison", () => {
  it("are asked under the same principle, the better answer (A) and (B) in turn", () => {
    const begin = "Consider the following conversation between a human and an assistant:\n\nHuman:"
    assert.strictEqual(
      humanAssistant.choice({ ...choice, prompt: Sample.prompt("P") }, examples).context,
      `${begin} P1\n\nCMP\n\nOptions:\n(A) good\n(B) bad\n\nThe answer is: (A)\n\n` +
        `${begin} P2\n\nCMP\n\nOptions:\n(A) foul\n(B) fine\n\nThe answer is: (B)\n\n` +
        `${begin} P\n\nCMP\n\nOptions:\n(A) one\n(B) two\n\nThe answer is:`
    )
  })

  it("are turns of a chat", () => {
    const { messages } = chat.choice(choice, examples).context as { messages: ReadonlyArray<{ content: string }> }
    assert.deepStrictEqual(
      messages.map(({ content }) => content.split("\n").at(-1)),
      ["Answer with (A) or (B).", "The answer is: (A)", "Answer with (A) or (B).", "The answer is: (B)"].concat(
        "Answer with (A) or (B)."
      )
    )
  })
})

describe("reasoning", () => {
  it("comes before the choice, in every transcript", () => {
    const literal = [humanAssistant, plain].map((transcript) => ({
      thinking: transcript.reasoning(choice),
      choosing: transcript.choice({ ...choice, reasoning: "(B) is two." })
    }))
    for (const { thinking, choosing } of literal) {
      assert.match(String(thinking.context), /\n\nLet's think step by step:$/)
      assert.include(String(choosing.context), "\n\nLet's think step by step: (B) is two.\n\n")
      // The thought ends where the choice would begin.
      assert.isTrue(thinking.stop.some((stop) => String(choosing.context).endsWith(stop)))
      assert.strictEqual(String(choosing.context).indexOf(String(thinking.context)), 0)
    }
    const { messages } = chat.choice({ ...choice, reasoning: "(B) is two." }).context as { messages: Array<object> }
    assert.deepInclude(messages[1], { role: "assistant", content: "Let's think step by step: (B) is two." })
    assert.deepInclude(chat.reasoning(choice).context, { prefix: "Let's think step by step:" })
    // A model that was told to begin with these words has them in its answer.
    const begun = chat.choice({ ...choice, reasoning: "Let's think step by step: (B)." }).context
    assert.deepInclude((begun as { messages: Array<object> }).messages[1], {
      content: "Let's think step by step: (B)."
    })
  })
})

describe("a revision without a critique", () => {
  const direct = Sample.critique({ ...critique, text: "" })
  const fewShot = {
    revision: "\n\nHuman: E\n\nAssistant: F\n\nCritiqueRequest: G\n\nCritique: H\n\nRevisionRequest: I\n\nRevision: J\n"
  }

  it("leaves the critique out, also of the worked examples", () => {
    assert.strictEqual(
      humanAssistant.revision(direct, "RR", fewShot).context,
      "\n\nHuman: E\n\nAssistant: F\n\nRevisionRequest: I\n\nRevision: J" +
        `${conversation}\n\nAssistant: R\n\nRevisionRequest: RR\n\nRevision:`
    )
    assert.notInclude(String(plain.revision(direct, "RR").context), "Critique")
    const { messages } = chat.revision(direct, "RR").context as { messages: ReadonlyArray<{ role: string }> }
    assert.deepStrictEqual(
      messages.map(({ role }) => role),
      ["user", "assistant", "user", "assistant", "user"]
    )
  })
})
