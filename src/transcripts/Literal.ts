/**
 * Literal: transcripts that are one text, which the model goes on with; no chat template is applied.
 *
 * @internal
 */
import type { FewShot } from "../Constitution.ts"
import type { Message } from "../Policy.ts"
import type { Prompt, Response } from "../Sample.ts"
import type { ChoiceRequest, Rendered, Transcript } from "../Transcript.ts"
import { comparison, examples, options, paragraphs, revisionShots, step, thought, turns, verdict } from "./Words.ts"
import type { Asked } from "./Words.ts"

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

/** What stands before a comparison, as text. */
const shown = (request: ChoiceRequest, fewShot: FewShot | undefined, render: (asked: Asked) => string): string =>
  paragraphs(
    typeof fewShot?.comparison === "string" ? fewShot.comparison.trimEnd() : undefined,
    ...examples(request, fewShot).map(({ asked, verdict }) => `${render(asked)}${verdict}`)
  )

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
  verdict
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
