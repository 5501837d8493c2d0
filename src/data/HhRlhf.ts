/**
 * HhRlhf: the `\n\nHuman:` / `\n\nAssistant:` conversations of the Anthropic data sets.
 *
 * A row of hh-rlhf holds two conversations `{chosen, rejected}` that differ in the last answer alone; what they share,
 * up to the last `\n\nAssistant:`, is the prompt (Bai et al. 2022, arXiv 2204.05862).
 */
import type { Message } from "../Policy.ts"

const assistant = "\n\nAssistant:"
const marker = /\n\n(Human|Assistant):/g

/** The number of characters that both texts begin with. */
const sharedLength = (a: string, b: string): number => {
  const end = Math.min(a.length, b.length)
  let i = 0
  while (i < end && a[i] === b[i]) i++
  return i
}

/** The conversation before the two answers, as text ending in `\n\nAssistant:`; undefined when they share none. */
export const sharedPrefix = (chosen: string, rejected: string): string | undefined => {
  const shared = chosen.slice(0, sharedLength(chosen, rejected))
  const last = shared.lastIndexOf(assistant)
  return last < 0 ? undefined : shared.slice(0, last + assistant.length)
}

/** Whether the text is a transcript with markers, and not a bare prompt. */
export const isTranscript = (text: string): boolean => /^\s*Human:/.test(text) && text.includes("Human:")

/**
 * The turns of a transcript. Turns of the same speaker that follow each other are joined, and a last empty
 * `\n\nAssistant:` (the place where the answer goes) is left out.
 */
export const messages = (transcript: string): ReadonlyArray<Message> => {
  const text = transcript.startsWith("\n\n") ? transcript : `\n\n${transcript.trimStart()}`
  const turns: Array<{ role: Message["role"]; content: string }> = []
  const marks = [...text.matchAll(marker)]
  for (const [i, mark] of marks.entries()) {
    const content = text.slice(mark.index + mark[0].length, marks[i + 1]?.index ?? text.length).trim()
    const role = mark[1] === "Human" ? "user" : "assistant"
    const last = turns.at(-1)
    if (content === "") continue
    if (last?.role === role) last.content = `${last.content}\n\n${content}`
    else turns.push({ role, content })
  }
  return turns
}
