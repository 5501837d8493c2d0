import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as ModelRows from "../../src/data/ModelRows.ts"

const messages = [
  { role: "user", content: "Why?" },
  { role: "assistant", content: "So." }
]

/** What commands like `charter score` and `charter generate` read of a row. */
const scored = ModelRows.decode(["text", "ids", "completion"])
const continued = ModelRows.decode(["prompt", "ids"])
const read = (decode: typeof scored, row: Record<string, unknown>) =>
  Result.match(decode({ line: 1, row }), { onSuccess: ({ input }) => input as object, onFailure: (reason) => reason })

describe("a row for a model", () => {
  it("is read in the shape that the command takes, of those that it has", () => {
    // As in ultrachat_200k and ultrafeedback_binarized.
    for (const more of [{ messages }, { text: "Why? So." }, { messages, text: "Why? So." }]) {
      expect(read(continued, { prompt: "Why?", ...more })).toEqual({ _tag: "prompt", prompt: "Why?" })
      expect(read(scored, { prompt: "Why?", ...more })).not.toMatchObject({ _tag: "prompt" })
    }
    expect(read(scored, { prompt: "Why?", messages })).toMatchObject({ _tag: "completion", answer: messages[1] })
    expect(read(scored, { prompt: "Why?", text: "Why? So." })).toEqual({ _tag: "text", text: "Why? So." })
  })

  it("with a completion is no prompt to continue", () => {
    const row = { prompt: "Why?", completion: "So.", messages }
    expect(read(scored, row)).toMatchObject({ _tag: "completion", answer: "So." })
    expect(read(continued, row)).toContain("a row with prompt and completion")
  })

  it("has what it gives its chat template beside the prompt", () => {
    const given = { tools: [{ name: "weather" }], chat_template_kwargs: { enable_thinking: false } }
    const prompt = messages.slice(0, 1)
    expect(read(continued, { prompt, ...given })).toEqual({ _tag: "prompt", prompt, ...given })
    expect(read(scored, { messages, ...given })).toEqual({ _tag: "completion", prompt, answer: messages[1], ...given })
    const input = { _tag: "prompt", prompt: "Why?", ...given } as const
    expect(ModelRows.asked(input)).toEqual({ prompt: "Why?", ...given })
    expect(read(continued, { prompt: "Why?", ...given })).toEqual({ _tag: "prompt", prompt: "Why?" })
  })

  it("of a shape that the command does not take is rejected for that, however it ends", () => {
    const asked = messages.slice(0, 1)
    expect(read(continued, { messages: asked })).toContain("this command takes a prompt alone")
    expect(read(continued, { messages: "Why?" })).toContain("this command takes a prompt alone")
    expect(read(continued, { prompt: "Why?", completion: "" })).toContain("this command takes a prompt alone")
  })

  it("of other shapes alone is rejected with what it has", () => {
    expect(read(continued, { messages })).toContain("a row with prompt and completion, or messages; this command takes")
    expect(read(scored, { prompt: "Why?" })).toContain("a row with a prompt alone")
    expect(read(scored, { completion: "So." })).toContain("none of the shapes")
    expect(read(scored, { question: "Why?" })).toContain("none of the shapes")
  })
})
