/**
 * Chat: the transcript that puts turns through the model's own chat template.
 *
 * @internal
 */
import type { FewShot } from "../Constitution.ts"
import type { Message } from "../Policy.ts"
import type { Response } from "../Sample.ts"
import type { ChoiceRequest, Transcript } from "../Transcript.ts"
import {
  assistantTurn,
  comparison,
  examples,
  options,
  revisionShots,
  step,
  thought,
  userTurn,
  verdict
} from "./Words.ts"

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
