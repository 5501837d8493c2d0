/**
 * Trl: the six shapes of data that TRL's trainers take, as rows, both ways, standard (texts) and conversational
 * (messages); see TRL's page "Dataset formats and types".
 *
 * - language modelling: `text` | `messages`
 * - prompt only: `prompt`
 * - prompt and completion: `prompt`, `completion`
 * - preference, with its prompt: `prompt`, `chosen`, `rejected` (`margin`)
 * - preference, with the prompt in both: `chosen`, `rejected` (`margin`)
 * - unpaired preference: `prompt`, `completion`, `label`
 *
 * Rows are plain: any format of rows holds them. `margin` is the log-odds that the judge gave the chosen answer, the
 * scale on which a reward model's scores differ, so a soft label comes back as it was.
 *
 * @example
 * revisions.pipe(Stream.map(Trl.promptCompletion("conversational")), Jsonl.write("sft.jsonl"))
 */
import { Result } from "effect"
import type { Example, Message, ModelContext } from "../Policy.ts"
import type { PreferenceExample } from "../RewardModel.ts"
import * as Sample from "../Sample.ts"
import { humanAssistant } from "../Transcript.ts"
import * as HhRlhf from "./HhRlhf.ts"
import * as Messages from "./Messages.ts"
import type * as Rows from "./Rows.ts"

/** Texts, or messages. */
export type Form = "standard" | "conversational"

/** A text, or messages. */
export type Turns = string | ReadonlyArray<Message>

/** A row in any of the six shapes. */
export type Row =
  | { readonly text: string }
  | { readonly messages: ReadonlyArray<Message> }
  | { readonly prompt: Turns }
  | { readonly prompt: Turns; readonly completion: Turns }
  | { readonly prompt?: Turns; readonly chosen: Turns; readonly rejected: Turns; readonly margin?: number }
  | { readonly prompt: Turns; readonly completion: Turns; readonly label: boolean }

const shapes: ReadonlyArray<ReadonlyArray<string>> = [
  ["prompt", "chosen", "rejected"],
  ["chosen", "rejected"],
  ["prompt", "completion", "label"],
  ["prompt", "completion"],
  ["messages"],
  ["text"],
  ["prompt"]
]

const turns = ["prompt", "completion", "chosen", "rejected"]

const problem = (name: string, value: unknown): string | undefined => {
  if (name === "text") return typeof value === "string" ? undefined : "`text` is not text"
  if (name === "label") return typeof value === "boolean" ? undefined : "`label` is neither true nor false"
  return name !== "messages" && typeof value === "string" ? undefined : Messages.problem(name, value)
}

/** The row of one of the shapes, or why it is none; other columns are left out. */
export const decode = (row: Rows.Row): Result.Result<Row, string> => {
  const shape = shapes.find((names) => names.every((name) => row[name] !== undefined && row[name] !== null))
  if (shape === undefined) {
    return Result.fail("none of the shapes: text; messages; prompt (completion (label)); (prompt) chosen rejected")
  }
  const wrong = shape.map((name) => problem(name, row[name])).find((found) => found !== undefined)
  if (wrong !== undefined) return Result.fail(wrong)
  const mixed = new Set(shape.filter((name) => turns.includes(name)).map((name) => typeof row[name])).size > 1
  if (mixed) return Result.fail("some of its columns are texts and some messages")
  const margin = shape.includes("chosen") ? (row["margin"] ?? undefined) : undefined
  if (margin !== undefined && (typeof margin !== "number" || !Number.isFinite(margin))) {
    return Result.fail("`margin` is not a finite number")
  }
  const kept = shape.map((name) => [name, row[name]] as const)
  return Result.succeed(
    Object.fromEntries(margin === undefined ? kept : [...kept, ["margin", margin]]) as unknown as Row
  )
}

const promptOf = (form: Form, prompt: Sample.Prompt): Turns =>
  form === "standard" ? (humanAssistant.response(prompt).context as string) : prompt.messages

const answerOf = (form: Form, text: string): Turns =>
  form === "standard" ? humanAssistant.completion(text) : [{ role: "assistant", content: text }]

/** The conversation with the revised answer: `text` or `messages`. */
export const languageModelling =
  (form: Form) =>
  ({ critique, text }: Sample.Revision): Row => {
    const { prompt } = critique.response
    return form === "standard"
      ? { text: `${promptOf(form, prompt)}${answerOf(form, text)}` }
      : { messages: [...prompt.messages, { role: "assistant", content: text }] }
  }

/** The prompt alone. */
export const promptOnly =
  (form: Form) =>
  (prompt: Sample.Prompt): Row => ({ prompt: promptOf(form, prompt) })

/** The prompt and the revised answer. */
export const promptCompletion =
  (form: Form) =>
  ({ critique, text }: Sample.Revision): Row => ({
    prompt: promptOf(form, critique.response.prompt),
    completion: answerOf(form, text)
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

const contextOf = (prompt: Turns): ModelContext => (typeof prompt === "string" ? prompt : { messages: prompt })

/** The text of an answer: a text, or one message of the assistant. */
const completionOf = (answer: Turns): Result.Result<string, string> => {
  if (typeof answer === "string") return answer === "" ? Result.fail("the answer is empty") : Result.succeed(answer)
  const [message] = answer
  return answer.length === 1 && message?.role === "assistant"
    ? Result.succeed(message.content)
    : Result.fail("the answer is not one message of the assistant")
}

/** An answer at the end of a transcript, in which nobody else may speak: a person's words would be learnt. */
const lastAnswer = (answer: string): Result.Result<string, string> =>
  answer.includes("\n\nHuman:")
    ? Result.fail("the transcript goes on with \\n\\nHuman: after its last answer")
    : Result.succeed(answer)

/** A conversation that ends with an answer, cut before it. */
const split = (whole: Turns): Result.Result<readonly [prompt: Turns, answer: Turns], string> => {
  if (typeof whole !== "string") {
    return whole.at(-1)?.role === "assistant"
      ? Result.succeed([whole.slice(0, -1), whole.slice(-1)])
      : Result.fail("the conversation does not end with a message of the assistant")
  }
  const prompt = HhRlhf.isTranscript(whole) ? HhRlhf.sharedPrefix(whole, whole) : ""
  if (prompt === undefined) return Result.fail("the text has no \\n\\nAssistant:")
  const answer = whole.slice(prompt.length)
  return Result.map(prompt === "" ? Result.succeed(answer) : lastAnswer(answer), (answer) => [prompt, answer])
}

const exampleOf = (prompt: Turns, answer: Turns): Result.Result<Example, string> =>
  Result.map(completionOf(answer), (completion) => ({
    id: Sample.id("example", JSON.stringify(prompt), completion),
    context: contextOf(prompt),
    completion
  }))

/** A row as an example to learn from: of a preference the chosen answer, of unpaired ones those labelled good. */
export const example = (row: Row): Result.Result<Example, string> => {
  if ("text" in row) return Result.flatMap(split(row.text), (parts) => exampleOf(...parts))
  if ("messages" in row) return Result.flatMap(split(row.messages), (parts) => exampleOf(...parts))
  if ("chosen" in row) {
    return row.prompt === undefined
      ? Result.flatMap(split(row.chosen), (parts) => exampleOf(...parts))
      : exampleOf(row.prompt, row.chosen)
  }
  if (!("completion" in row)) return Result.fail("a prompt without an answer")
  if ("label" in row && !row.label) return Result.fail("labelled as a bad answer")
  return exampleOf(row.prompt, row.completion)
}

const sameTurns = (a: ReadonlyArray<Message>, b: ReadonlyArray<Message>) =>
  a.length === b.length && a.every(({ content, role }, i) => role === b[i]!.role && content === b[i]!.content)

/**
 * What two texts begin with, as TRL takes it: up to where they differ, without the space before; each keeps some of its
 * own, and no character is cut in two.
 */
const commonBeginning = (a: string, b: string): string => {
  const n = Math.min(HhRlhf.sharedLength(a, b), a.length - 1, b.length - 1)
  const shared = a.slice(0, n).replace(/[\uD800-\uDBFF]$/, "")
  return shared.endsWith(" ") ? shared.slice(0, -1) : shared
}

/** The prompt and two answers of two conversations that share all but their end. */
const shared = (chosen: Turns, rejected: Turns): Result.Result<readonly [Turns, Turns, Turns], string> => {
  const none = Result.fail("`chosen` and `rejected` do not share their prompt")
  if (typeof chosen === "string" && typeof rejected === "string") {
    const transcripts = HhRlhf.isTranscript(chosen) || HhRlhf.isTranscript(rejected)
    const prompt = HhRlhf.sharedPrefix(chosen, rejected) ?? (transcripts ? "" : commonBeginning(chosen, rejected))
    if (prompt === "") return none
    const answers = Result.all([chosen, rejected].map((whole) => lastAnswer(whole.slice(prompt.length))))
    return Result.map(answers, ([first, second]) => [prompt, first!, second!])
  }
  if (typeof chosen === "string" || typeof rejected === "string") return none
  return chosen.length > 1 && sameTurns(chosen.slice(0, -1), rejected.slice(0, -1))
    ? Result.succeed([chosen.slice(0, -1), chosen.slice(-1), rejected.slice(-1)])
    : none
}

/** A preference as an example for a reward model; without a margin the chosen answer is certainly the better. */
export const preferenceExample = (row: Row): Result.Result<PreferenceExample, string> =>
  Result.gen(function* () {
    if (!("chosen" in row)) return yield* Result.fail("not a preference: no `chosen` with `rejected`")
    const [prompt, chosen, rejected] =
      row.prompt === undefined ? yield* shared(row.chosen, row.rejected) : [row.prompt, row.chosen, row.rejected]
    const first = yield* completionOf(chosen)
    const second = yield* completionOf(rejected)
    return {
      id: Sample.id("preference-example", JSON.stringify(prompt), first, second),
      context: contextOf(prompt),
      first,
      second,
      probability: row.margin === undefined ? 1 : 1 / (1 + Math.exp(-row.margin))
    }
  })
