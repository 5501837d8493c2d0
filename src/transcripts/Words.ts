/**
 * Words: what all transcripts say alike, and the worked examples that they put before it.
 *
 * @internal
 */
import type { FewShot } from "../Constitution.ts"
import type { Message } from "../Policy.ts"
import type { Prompt } from "../Sample.ts"
import type { ChoiceRequest } from "../Transcript.ts"

/** What a judge goes on with. */
export const options = [" (A)", " (B)"] as const

/** What a choice follows. */
export const verdict = "The answer is:"

/** What a thought before the choice begins with. */
export const step = "Let's think step by step:"

/** What was thought, after its first words; a model that was told to begin with them has written them itself. */
export const thought = (reasoning: string): string => (reasoning.startsWith(step) ? reasoning : `${step} ${reasoning}`)

/** Texts one after the other, each after an empty line; a text that is missing leaves no gap. */
export const paragraphs = (...texts: ReadonlyArray<string | undefined>): string =>
  texts.filter((text) => text !== undefined && text !== "").join("\n\n")

/** A comparison as it is asked, with an end for the answer. */
export type Asked = Pick<ChoiceRequest, "request" | "answers"> & {
  readonly prompt: Pick<Prompt, "kind" | "messages">
}

export const userTurn = (content: string): Message => ({ role: "user", content })
export const assistantTurn = (content: string): Message => ({ role: "assistant", content })

/**
 * The worked examples of a comparison with their verdicts, under the principle that is asked. The better answer is
 * (A) and (B) in turn, so that the examples favour neither.
 */
export const examples = ({ prompt, request }: ChoiceRequest, fewShot: FewShot | undefined) =>
  typeof fewShot?.comparison === "string"
    ? []
    : (fewShot?.comparison ?? []).map((example, i) => {
        const even = i % 2 === 0
        const messages = typeof example.prompt === "string" ? [userTurn(example.prompt)] : example.prompt
        const answers: readonly [string, string] = even
          ? [example.chosen, example.rejected]
          : [example.rejected, example.chosen]
        const asked: Asked = { prompt: { kind: prompt.kind, messages }, request, answers }
        return { asked, verdict: even ? options[0] : options[1] }
      })

/** The examples of a critique and revision; without their critiques where the answer is revised directly. */
export const revisionShots = (fewShot: FewShot | undefined, direct: boolean): string => {
  const shots = fewShot?.revision?.trimEnd() ?? ""
  return direct ? shots.replace(/\n\nCritiqueRequest:[\s\S]*?(?=\n\nRevisionRequest:)/g, "") : shots
}

const speaker = { system: "System", user: "Human", assistant: "Assistant" } as const

/** A conversation as the paper writes it. */
export const turns = (messages: ReadonlyArray<Message>): string =>
  messages.map(({ role, content }) => `\n\n${speaker[role]}: ${content.trim()}`).join("")

const instruction = "Consider the following conversation between a human and an assistant:"

/** A comparison as the paper asks it. */
export const comparison = ({ prompt, request, answers: [a, b] }: Asked): string =>
  `${instruction}${turns(prompt.messages)}\n\n${request}\n\nOptions:\n(A) ${a}\n(B) ${b}`
