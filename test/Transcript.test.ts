import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { Sample, Transcript } from "../src/index.ts"

const { chat, humanAssistant, plain } = Transcript

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
