/**
 * Transcript: how conversations, critiques, revisions and comparisons are put to a model.
 *
 * A context ends right after a colon or a whole word: the model writes the space that follows. {@link humanAssistant}
 * is the paper's literal form (Bai et al. 2022, appendix A); {@link chat} puts the same turns through the model's own
 * chat template.
 */
import { Context, Effect, Schema } from "effect"
import type { FewShot } from "./Constitution.ts"
import type { Example, Message, ModelContext } from "./Policy.ts"
import type { PreferenceExample } from "./RewardModel.ts"
import type { Critique, Preference, Prompt, Response } from "./Sample.ts"

/** A context with the texts that end what the model writes after it. */
export interface Rendered {
  readonly context: ModelContext
  readonly stop: ReadonlyArray<string>
}

/** A comparison: the model continues the context with one of the options, (A) first. */
export interface Choice extends Rendered {
  readonly options: readonly [string, string]
}

/** What is asked about two answers, in the order in which they are shown. */
export interface ChoiceRequest {
  readonly prompt: Prompt
  /** The comparison principle. */
  readonly request: string
  /** The texts of the answers (A) and (B). */
  readonly answers: readonly [string, string]
}

/** A way of putting things to a model. */
export interface Transcript {
  readonly name: string
  /** The conversation, to be answered. */
  readonly response: (prompt: Prompt) => Rendered
  /** The conversation and its answer, to be criticised. */
  readonly critique: (response: Response, request: string, fewShot?: FewShot) => Rendered
  /** The critique, to be followed by the revised answer. */
  readonly revision: (critique: Critique, request: string, fewShot?: FewShot) => Rendered
  /** Two answers, to be compared. */
  readonly choice: (request: ChoiceRequest, fewShot?: FewShot) => Choice
  /** An answer as the text that follows the context of {@link Transcript.response}, for learning and scoring. */
  readonly completion: (answer: string) => string
}

/** The transcript in force: {@link humanAssistant} unless another is provided. */
export const Transcript: Context.Reference<Transcript> = Context.Reference<Transcript>("charter/Transcript", {
  defaultValue: () => humanAssistant
})

/** An answer that cannot be used, such as one without a word. */
export class UnusableAnswer extends Schema.TaggedError<UnusableAnswer>()("UnusableAnswer", {
  /** What was being written, such as `critique`. */
  what: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `the ${this.what} cannot be used: ${this.reason}`
  }
}

/** The text of an answer without the space around it. It is never cut: what a colon precedes is text, too. */
export const clean = (text: string, what = "answer"): Effect.Effect<string, UnusableAnswer> => {
  const trimmed = text.trim()
  return trimmed === ""
    ? Effect.fail(new UnusableAnswer({ what, reason: "the model wrote nothing; check the transcript and stop texts" }))
    : Effect.succeed(trimmed)
}

const speaker = { system: "System", user: "Human", assistant: "Assistant" } as const

const turns = (messages: ReadonlyArray<Message>): string =>
  messages.map(({ role, content }) => `\n\n${speaker[role]}: ${content.trim()}`).join("")

const stop = [
  "\n\nHuman:",
  "\n\nAssistant:",
  "\n\nCritiqueRequest:",
  "\n\nCritique:",
  "\n\nRevisionRequest:",
  "\n\nRevision:"
]

const options = [" (A)", " (B)"] as const

const instruction = "Consider the following conversation between a human and an assistant:"

const comparison = ({ prompt, request, answers: [a, b] }: ChoiceRequest): string =>
  `${instruction}${turns(prompt.messages)}\n\n${request}\n\nOptions:\n(A) ${a}\n(B) ${b}`

const answered = (response: Response): string => `${turns(response.prompt.messages)}\n\nAssistant: ${response.text}`

const criticised = (response: Response, request: string, fewShot?: FewShot): string =>
  `${fewShot?.revision?.trimEnd() ?? ""}${answered(response)}\n\nCritiqueRequest: ${request}\n\nCritique:`

/** The paper's transcripts, as literal texts: no chat template is applied. */
export const humanAssistant: Transcript = {
  name: "human-assistant",
  response: (prompt) => ({ context: `${turns(prompt.messages)}\n\nAssistant:`, stop }),
  critique: (response, request, fewShot) => ({ context: criticised(response, request, fewShot), stop }),
  revision: ({ response, request: asked, text }, request, fewShot) => ({
    context: `${criticised(response, asked, fewShot)} ${text}\n\nRevisionRequest: ${request}\n\nRevision:`,
    stop
  }),
  choice: (request, fewShot) => ({
    context: `${fewShot?.comparison ? `${fewShot.comparison.trimEnd()}\n\n` : ""}${comparison(request)}\n\nThe answer is:`,
    options,
    stop
  }),
  completion: (answer) => (answer === "" ? "" : ` ${answer}`)
}

const user = (content: string): Message => ({ role: "user", content })
const assistant = (content: string): Message => ({ role: "assistant", content })

/** Worked examples go before everything, where a chat model expects what holds for the whole conversation. */
const after = (examples: string | undefined, messages: ReadonlyArray<Message>): ReadonlyArray<Message> =>
  examples === undefined ? messages : [{ role: "system", content: `Examples:\n\n${examples.trim()}` }, ...messages]

const critiqueTurns = ({ prompt, text }: Response, request: string): ReadonlyArray<Message> => [
  ...prompt.messages,
  assistant(text),
  user(`${request}\n\nWrite only the critique; do not rewrite the response yet.`)
]

/** The same turns as messages, for models with a chat template: requests are further turns of the human. */
export const chat: Transcript = {
  name: "chat",
  response: ({ messages }) => ({ context: { messages }, stop: [] }),
  critique: (response, request, fewShot) => ({
    context: { messages: after(fewShot?.revision, critiqueTurns(response, request)) },
    stop: []
  }),
  revision: ({ response, request: asked, text }, request, fewShot) => ({
    context: {
      messages: after(fewShot?.revision, [
        ...critiqueTurns(response, asked),
        assistant(text),
        user(`${request}\n\nWrite only the revised response, addressed to the human of the conversation.`)
      ])
    },
    stop: []
  }),
  choice: (request, fewShot) => ({
    context: {
      messages: after(fewShot?.comparison, [user(`${comparison(request)}\n\nAnswer with (A) or (B).`)]),
      prefix: "The answer is:"
    },
    options,
    stop: []
  }),
  completion: (answer) => answer
}

/** The transcript for a model, by whether it has a chat template. */
export const forModel = (model: { readonly chat: boolean }): Transcript => (model.chat ? chat : humanAssistant)

/** An answer as a supervised example; for a revision, `Sample.revised` gives its answer. */
export const example = (transcript: Transcript, { id, prompt, text }: Response): Example => ({
  id,
  context: transcript.response(prompt).context,
  completion: transcript.completion(text)
})

/** A soft label as an example for a reward model. */
export const preferenceExample = (transcript: Transcript, preference: Preference): PreferenceExample => ({
  id: preference.id,
  context: transcript.response(preference.comparison.prompt).context,
  first: transcript.completion(preference.comparison.first.text),
  second: transcript.completion(preference.comparison.second.text),
  probability: preference.probability
})
