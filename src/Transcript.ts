/**
 * Transcript: how conversations, critiques, revisions and comparisons are put to a model.
 *
 * A context ends right after a colon or a whole word: the model writes the space that follows. {@link humanAssistant}
 * is the paper's literal form (Bai et al. 2022, appendix A); {@link plain} asks in plain words, without speakers;
 * {@link chat} puts the turns through the model's own chat template.
 *
 * @example
 * // A transcript of one's own: another one, changed where it differs.
 * const brief: Transcript.Transcript = {
 *   ...Transcript.humanAssistant,
 *   name: "brief",
 *   critique: (response, request) => ({
 *     context: `Question: ${response.prompt.text}\nAnswer: ${response.text}\n${request}\nFault:`,
 *     stop: ["\nQuestion:", "\n\n"]
 *   })
 * }
 * prompts.pipe(Response.stage(), Critique.stage(), Stream.provideService(Transcript.Transcript, brief))
 */
import { Context, Effect, Schema } from "effect"
import type { FewShot } from "./Constitution.ts"
import type { Example, ModelContext } from "./Policy.ts"
import type { PreferenceExample } from "./RewardModel.ts"
import type { Critique, Preference, Prompt, Response } from "./Sample.ts"
import { chat } from "./transcripts/Chat.ts"
import { humanAssistant } from "./transcripts/Literal.ts"

export { chat } from "./transcripts/Chat.ts"
export { humanAssistant, plain, type Literal } from "./transcripts/Literal.ts"

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
  /** What the model wrote after {@link Transcript.reasoning}, before it chooses. */
  readonly reasoning?: string | undefined
}

/** A way of putting things to a model. */
export interface Transcript {
  readonly name: string
  /** The conversation, to be answered. */
  readonly response: (prompt: Prompt) => Rendered
  /** The conversation and its answer, to be criticised. */
  readonly critique: (response: Response, request: string, fewShot?: FewShot) => Rendered
  /** The critique, to be followed by the revised answer. One without text was left out, and is left out here. */
  readonly revision: (critique: Critique, request: string, fewShot?: FewShot) => Rendered
  /** Two answers, to be compared; after `reasoning`, where there is some. */
  readonly choice: (request: ChoiceRequest, fewShot?: FewShot) => Choice
  /** Two answers, to be thought about step by step before the choice. */
  readonly reasoning: (request: ChoiceRequest, fewShot?: FewShot) => Rendered
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

/** The text before the first of the stop texts. */
export const cut = (text: string, stop: ReadonlyArray<string>): string => {
  const ends = stop.map((end) => text.indexOf(end)).filter((at) => at >= 0)
  return ends.length === 0 ? text : text.slice(0, Math.min(...ends))
}

/**
 * The text of an answer without the space around it, cut where the transcript says and nowhere else: what a colon
 * precedes is text, too. `what` is being written.
 */
export const clean = (
  text: string,
  what = "answer",
  stop: ReadonlyArray<string> = []
): Effect.Effect<string, UnusableAnswer> => {
  const trimmed = cut(text, stop).trim()
  if (trimmed !== "") return Effect.succeed(trimmed)
  const reason =
    text.trim() === ""
      ? "the model wrote nothing; check the transcript and stop texts"
      : `it begins with a stop text: ${JSON.stringify(text.trim().slice(0, 40))}; check the transcript and stop texts`
  return Effect.fail(new UnusableAnswer({ what, reason }))
}

/** The transcript for a model, by whether it has a chat template. */
export const forModel = (model: { readonly chat: boolean }): Transcript => (model.chat ? chat : humanAssistant)

/** An answer as a supervised example; for a revision, `Sample.revised` gives its answer. */
export const example = (
  transcript: Transcript,
  { finish, id, prompt, text }: Pick<Response, "finish" | "id" | "prompt" | "text">
): Example => ({
  id,
  context: transcript.response(prompt).context,
  completion: transcript.completion(text),
  ...(finish === undefined ? {} : { finish })
})

/** A soft label as an example for a reward model. */
export const preferenceExample = (transcript: Transcript, preference: Preference): PreferenceExample => ({
  id: preference.id,
  context: transcript.response(preference.comparison.prompt).context,
  first: transcript.completion(preference.comparison.first.text),
  second: transcript.completion(preference.comparison.second.text),
  probability: preference.probability
})
