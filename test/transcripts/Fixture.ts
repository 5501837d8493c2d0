/** What the tests of the transcripts share: a conversation with its answer, its critique and a comparison. */
import { Sample } from "../../src/index.ts"

export const prompt = Sample.prompt([
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "P" }
])
export const response = Sample.response({ prompt, text: "R", model: "m", seed: 0, index: 0 })
export const critique = Sample.critique({ response, principle: "p", request: "CR", text: "C", round: 1, model: "m" })
export const choice = { prompt, request: "CMP", answers: ["one", "two"] } as const

export const conversation = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: P"
