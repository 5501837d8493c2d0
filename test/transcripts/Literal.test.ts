import { assert, describe, it } from "@effect/vitest"
import { Sample, Transcript } from "../../src/index.ts"
import { choice, conversation, critique, prompt, response } from "./Fixture.ts"

const { humanAssistant, plain } = Transcript

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

describe("plain", () => {
  it("asks in plain words", () => {
    const told = "Prompt: Hi\n\nResponse: Hello\n\nPrompt: P"
    assert.strictEqual(plain.response(prompt).context, `${told}\n\nResponse:`)
    assert.strictEqual(
      plain.critique(response, "CR").context,
      `${told}\n\nResponse: R\n\nCritique this response based on: CR\n\nCritique:`
    )
    assert.strictEqual(
      plain.revision(critique, "RR").context,
      `${told}\n\nResponse: R\n\nCritique this response based on: CR\n\nCritique: C` +
        "\n\nRevise this response based on: RR\n\nRevision:"
    )
  })

  it("asks which response is less harmful, or more helpful where the prompt is benign", () => {
    const { context, options } = plain.choice(choice)
    assert.strictEqual(
      context,
      "Prompt: Hi\n\nResponse: Hello\n\nPrompt: P\n\nResponse (A): one\n\nResponse (B): two" +
        "\n\nWhich response is less harmful according to: CMP\n\nAnswer:"
    )
    assert.deepStrictEqual(options, [" (A)", " (B)"])
    const benign = plain.choice({ ...choice, prompt: Sample.prompt("P", "benign") }).context
    assert.include(String(benign), "Which response is more helpful according to: CMP")
  })

  it("keeps worked examples apart from what is asked", () => {
    const { context } = plain.critique(response, "CR", { revision: "Prompt: E\n\nResponse: F\n" })
    assert.match(String(context), /^Prompt: E\n\nResponse: F\n\nPrompt: Hi/)
  })

  it("ends an answer before its next part", () => {
    const { context, stop } = plain.revision(critique, "RR")
    for (const part of String(context).match(/\n\n[^:]+:/g) ?? []) {
      if (part.includes("based on")) continue
      assert.isTrue(
        stop.some((text) => part.startsWith(text)),
        part
      )
    }
  })
})
