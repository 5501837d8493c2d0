/**
 * TrlWritten: revisions and preferences as rows in TRL's shapes.
 *
 * @internal
 */
import { Result } from "effect"
import type * as Sample from "../Sample.ts"
import { humanAssistant } from "../Transcript.ts"
import { finishOf } from "./TrlShape.ts"
import type { Form, Row, Turns } from "./TrlShape.ts"

const promptOf = (form: Form, prompt: Sample.Prompt): Turns =>
  form === "standard" ? humanAssistant.response(prompt).context : prompt.messages

const answerOf = (form: Form, text: string): Turns =>
  form === "standard" ? humanAssistant.completion(text) : [{ role: "assistant", content: text }]

/** The conversation with the revised answer: `text` or `messages`. */
export const languageModelling =
  (form: Form) =>
  ({ critique, finish, text }: Sample.Revision): Row => {
    const { prompt } = critique.response
    return form === "standard"
      ? { text: `${promptOf(form, prompt)}${answerOf(form, text)}`, ...finishOf(finish) }
      : { messages: [...prompt.messages, { role: "assistant", content: text }], ...finishOf(finish) }
  }

/** The prompt alone. */
export const promptOnly =
  (form: Form) =>
  (prompt: Sample.Prompt): Row => ({ prompt: promptOf(form, prompt) })

/** The prompt and the revised answer. */
export const promptCompletion =
  (form: Form) =>
  ({ critique, finish, text }: Sample.Revision): Row => ({
    prompt: promptOf(form, critique.response.prompt),
    completion: answerOf(form, text),
    ...finishOf(finish)
  })

/** Log-odds; certain labels are cut to +-13.8, which JSON and a loss can hold. */
const logOdds = (probability: number): number => {
  const p = Math.min(Math.max(probability, 1e-6), 1 - 1e-6)
  return Math.log(p / (1 - p))
}

const ordered = ({ comparison: { first, second }, probability }: Sample.Preference) =>
  probability >= 0.5 ? [first.text, second.text] : [second.text, first.text]

/** The better and the worse answer; a tie is none without its margin. */
export const preference =
  (form: Form, options: { readonly margin?: boolean; readonly implicit?: boolean } = {}) =>
  (label: Sample.Preference): Result.Result<Row, string> => {
    if (label.probability === 0.5 && options.margin !== true) return Result.fail("a tie: neither answer is chosen")
    const [chosen = "", rejected = ""] = ordered(label)
    const prompt = promptOf(form, label.comparison.prompt)
    const whole = (text: string): Turns =>
      typeof prompt === "string"
        ? `${prompt}${humanAssistant.completion(text)}`
        : [...prompt, { role: "assistant", content: text }]
    return Result.succeed({
      ...(options.implicit === true
        ? { chosen: whole(chosen), rejected: whole(rejected) }
        : { prompt, chosen: answerOf(form, chosen), rejected: answerOf(form, rejected) }),
      ...(options.margin === true ? { margin: Math.abs(logOdds(label.probability)) } : {})
    })
  }

/** Both answers, one labelled good and one bad; none of a tie. */
export const unpairedPreference =
  (form: Form) =>
  (label: Sample.Preference): ReadonlyArray<Row> => {
    if (label.probability === 0.5) return []
    const prompt = promptOf(form, label.comparison.prompt)
    return ordered(label).map((text, i) => ({ prompt, completion: answerOf(form, text), label: i === 0 }))
  }
