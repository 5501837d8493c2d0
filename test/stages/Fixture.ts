/** What the tests of the stages share: a small constitution and a prompt. */
import { Constitution, Sample } from "../../src/index.ts"

export const principles = new Constitution.Principles({
  name: "two kindnesses",
  revision: [{ id: "kind", critique: "Say what is unkind.", revision: "Make it kind." }],
  comparison: [{ id: "kinder", principle: "Choose the kinder response." }],
  helpfulness: [{ id: "useful", principle: "Choose the more useful response." }]
})

export const constitution = Constitution.layer(principles)

export const prompt = Sample.prompt("How do I annoy my neighbour?")

export const answer = (text: string, index = 0, to = prompt) =>
  Sample.response({ prompt: to, text, model: "mock", seed: 0, index })
