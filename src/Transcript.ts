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

const options = [" (A)", " (B)"] as const

const step = "Let's think step by step:"

/** What was thought, after its first words; a model that was told to begin with them has written them itself. */
const thought = (reasoning: string): string => (reasoning.startsWith(step) ? reasoning : `${step} ${reasoning}`)

/** Texts one after the other, each after an empty line; a text that is missing leaves no gap. */
const paragraphs = (...texts: ReadonlyArray<string | undefined>): string =>
  texts.filter((text) => text !== undefined && text !== "").join("\n\n")

/** A comparison as it is asked, with an end for the answer. */
type Asked = Pick<ChoiceRequest, "request" | "answers"> & {
  readonly prompt: Pick<Prompt, "kind" | "messages">
}

const userTurn = (content: string): Message => ({ role: "user", content })
const assistantTurn = (content: string): Message => ({ role: "assistant", content })

/**
 * The worked examples of a comparison with their verdicts, under the principle that is asked. The better answer is
 * (A) and (B) in turn, so that the examples favour neither.
 */
const examples = ({ prompt, request }: ChoiceRequest, fewShot: FewShot | undefined) =>
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

/** What stands before a comparison, as text. */
const shown = (request: ChoiceRequest, fewShot: FewShot | undefined, render: (asked: Asked) => string): string =>
  paragraphs(
    typeof fewShot?.comparison === "string" ? fewShot.comparison.trimEnd() : undefined,
    ...examples(request, fewShot).map(({ asked, verdict }) => `${render(asked)}${verdict}`)
  )

/** The examples of a critique and revision; without their critiques where the answer is revised directly. */
const revisionShots = (fewShot: FewShot | undefined, direct: boolean): string => {
  const shots = fewShot?.revision?.trimEnd() ?? ""
  return direct ? shots.replace(/\n\nCritiqueRequest:[\s\S]*?(?=\n\nRevisionRequest:)/g, "") : shots
}

const speaker = { system: "System", user: "Human", assistant: "Assistant" } as const

const turns = (messages: ReadonlyArray<Message>): string =>
  messages.map(({ role, content }) => `\n\n${speaker[role]}: ${content.trim()}`).join("")

const instruction = "Consider the following conversation between a human and an assistant:"

const comparison = ({ prompt, request, answers: [a, b] }: Asked): string =>
  `${instruction}${turns(prompt.messages)}\n\n${request}\n\nOptions:\n(A) ${a}\n(B) ${b}`

/** A transcript whose conversations are literal texts, to be continued. */
export interface Literal extends Transcript {
  readonly response: (prompt: Prompt) => Rendered & { readonly context: string }
}

/** The words of a transcript that is one literal text. */
interface Words {
  readonly name: string
  readonly stop: ReadonlyArray<string>
  /** The conversation. */
  readonly conversation: (prompt: Prompt) => string
  /** What the answer follows. */
  readonly answer: string
  readonly critique: (request: string) => string
  readonly revision: (request: string) => string
  readonly comparison: (asked: Asked) => string
  /** What the choice follows. */
  readonly verdict: string
}

const literal = (words: Words): Literal => {
  const { stop } = words
  const following = (shots: string, text: string): string =>
    shots === "" || text.startsWith("\n\n") ? `${shots}${text}` : `${shots}\n\n${text}`
  const answered = ({ prompt, text }: Response): string => `${words.conversation(prompt)}${words.answer} ${text}`
  const compared = (request: ChoiceRequest, fewShot?: FewShot): string =>
    paragraphs(
      shown(request, fewShot, (asked) => `${words.comparison(asked)}\n\n${words.verdict}`),
      words.comparison(request)
    )
  return {
    name: words.name,
    response: (prompt) => ({ context: `${words.conversation(prompt)}${words.answer}`, stop }),
    critique: (response, request, fewShot) => ({
      context: following(revisionShots(fewShot, false), `${answered(response)}${words.critique(request)}`),
      stop
    }),
    revision: ({ response, request: asked, text: found }, request, fewShot) => {
      const direct = found === ""
      const critique = direct ? "" : `${words.critique(asked)} ${found}`
      const text = `${answered(response)}${critique}${words.revision(request)}`
      return { context: following(revisionShots(fewShot, direct), text), stop }
    },
    choice: (request, fewShot) => ({
      context: paragraphs(
        compared(request, fewShot),
        request.reasoning === undefined ? undefined : thought(request.reasoning),
        words.verdict
      ),
      options,
      stop
    }),
    reasoning: (request, fewShot) => ({
      context: paragraphs(compared(request, fewShot), step),
      stop: [...stop, words.verdict]
    }),
    completion: (answer) => (answer === "" ? "" : ` ${answer}`)
  }
}

/** The paper's transcripts, as literal texts: no chat template is applied. */
export const humanAssistant: Literal = literal({
  name: "human-assistant",
  stop: [
    "\n\nHuman:",
    "\n\nAssistant:",
    "\n\nCritiqueRequest:",
    "\n\nCritique:",
    "\n\nRevisionRequest:",
    "\n\nRevision:"
  ],
  conversation: ({ messages }) => turns(messages),
  answer: "\n\nAssistant:",
  critique: (request) => `\n\nCritiqueRequest: ${request}\n\nCritique:`,
  revision: (request) => `\n\nRevisionRequest: ${request}\n\nRevision:`,
  comparison,
  verdict: "The answer is:"
})

const heading = { system: "Instruction", user: "Prompt", assistant: "Response" } as const

const headed = (messages: ReadonlyArray<Message>): string =>
  paragraphs(...messages.map(({ role, content }) => `${heading[role]}: ${content.trim()}`))

/** Plain words without speakers, as literal texts: for models that were not made for conversations. */
export const plain: Literal = literal({
  name: "plain",
  stop: [
    "\n\nPrompt:",
    "\n\nResponse:",
    "\n\nCritique this response",
    "\n\nCritique:",
    "\n\nRevise this response",
    "\n\nRevision:",
    "\n\nWhich response"
  ],
  conversation: ({ messages }) => headed(messages),
  answer: "\n\nResponse:",
  critique: (request) => `\n\nCritique this response based on: ${request}\n\nCritique:`,
  revision: (request) => `\n\nRevise this response based on: ${request}\n\nRevision:`,
  comparison: ({ prompt, request, answers: [a, b] }) =>
    paragraphs(
      headed(prompt.messages),
      `Response (A): ${a}`,
      `Response (B): ${b}`,
      `Which response is ${prompt.kind === "benign" ? "more helpful" : "less harmful"} according to: ${request}`
    ),
  verdict: "Answer:"
})

/** Worked examples go before everything, where a chat model expects what holds for the whole conversation. */
const after = (shots: string, messages: ReadonlyArray<Message>): ReadonlyArray<Message> =>
  shots.trim() === "" ? messages : [{ role: "system", content: `Examples:\n\n${shots.trim()}` }, ...messages]

const critiqueTurns = ({ prompt, text }: Response, request: string): ReadonlyArray<Message> => [
  ...prompt.messages,
  assistantTurn(text),
  userTurn(`${request}\n\nWrite only the critique; do not rewrite the response yet.`)
]

const revise = "Write only the revised response, addressed to the human of the conversation."
const choose = "Answer with (A) or (B)."
const think = "Think about it step by step; do not choose yet."
const verdict = "The answer is:"

/** What stands before a comparison as turns, and the comparison with the words at its end. */
const compareTurns = (request: ChoiceRequest, end: string, fewShot?: FewShot): ReadonlyArray<Message> =>
  after(typeof fewShot?.comparison === "string" ? fewShot.comparison : "", [
    ...examples(request, fewShot).flatMap((example) => [
      userTurn(`${comparison(example.asked)}\n\n${choose}`),
      assistantTurn(`${verdict}${example.verdict}`)
    ]),
    userTurn(`${comparison(request)}\n\n${end}`)
  ])

/** The same turns as messages, for models with a chat template: requests are further turns of the human. */
export const chat: Transcript = {
  name: "chat",
  response: ({ messages }) => ({ context: { messages }, stop: [] }),
  critique: (response, request, fewShot) => ({
    context: { messages: after(revisionShots(fewShot, false), critiqueTurns(response, request)) },
    stop: []
  }),
  revision: ({ response, request: asked, text }, request, fewShot) => {
    const direct = text === ""
    const before = direct
      ? [...response.prompt.messages, assistantTurn(response.text)]
      : [...critiqueTurns(response, asked), assistantTurn(text)]
    const messages = [...before, userTurn(`${request}\n\n${revise}`)]
    return { context: { messages: after(revisionShots(fewShot, direct), messages) }, stop: [] }
  },
  choice: (request, fewShot) => ({
    context: {
      messages:
        request.reasoning === undefined
          ? compareTurns(request, choose, fewShot)
          : [...compareTurns(request, think, fewShot), assistantTurn(thought(request.reasoning)), userTurn(choose)],
      prefix: verdict
    },
    options,
    stop: []
  }),
  reasoning: (request, fewShot) => ({
    context: { messages: compareTurns(request, think, fewShot), prefix: step },
    stop: [verdict]
  }),
  completion: (answer) => answer
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
