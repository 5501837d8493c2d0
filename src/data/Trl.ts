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
 * A conversational row may have `tools` and `chat_template_kwargs` for its chat template (`TemplateColumns.ts`), and its
 * answer thoughts or calls of tools beside its text (`Messages.ts`). `charter train` and its fellows put these to the
 * model; an example has no place for them.
 *
 * The row of a revision has its `finish`, a column that TRL leaves alone: of an answer that was cut off (`length`), no end
 * is learnt.
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
import * as HhRlhf from "./HhRlhf.ts"
import * as Messages from "./Messages.ts"
import type * as TemplateColumns from "./TemplateColumns.ts"
import { finishOf } from "./TrlShape.ts"
import type { Row, Turns } from "./TrlShape.ts"

export { decode } from "./TrlShape.ts"
export type { Form, Row, Turns } from "./TrlShape.ts"
export { languageModelling, preference, promptCompletion, promptOnly, unpairedPreference } from "./TrlWritten.ts"

/** What is asked: a prompt, with what the row gives its chat template. */
export type Asked = { readonly prompt: Turns } & TemplateColumns.TemplateColumns

/** A prompt with those of its row's columns that belong to it. */
export const ask = (prompt: Turns, { chat_template_kwargs, tools }: TemplateColumns.TemplateColumns): Asked => ({
  prompt,
  ...(tools === undefined ? {} : { tools }),
  ...(chat_template_kwargs === undefined ? {} : { chat_template_kwargs })
})

/** A text, or one message of the assistant, which may say more than its text. */
export type Answer = string | Message

/** The text of an answer. */
export const textOf = (answer: Answer): string => (typeof answer === "string" ? answer : answer.content)

const answerIn = (turns: Turns): Result.Result<Answer, string> => {
  if (typeof turns === "string") return turns === "" ? Result.fail("the completion is empty") : Result.succeed(turns)
  const [message] = turns
  return turns.length === 1 && message?.role === "assistant"
    ? Result.succeed(message)
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
    if (whole.at(-1)?.role !== "assistant") {
      return Result.fail("the conversation does not end with a message of the assistant")
    }
    // A template may begin every conversation with a system prompt: one of no message has none, and is no prompt.
    return whole.length > 1
      ? Result.succeed([whole.slice(0, -1), whole.slice(-1)])
      : Result.fail("the conversation has no message before its answer")
  }
  const prompt = HhRlhf.isTranscript(whole) ? HhRlhf.sharedPrefix(whole, whole) : ""
  if (prompt === undefined) return Result.fail("the text has no \\n\\nAssistant:")
  const answer = whole.slice(prompt.length)
  return Result.map(prompt === "" ? Result.succeed(answer) : lastAnswer(answer), (answer) => [prompt, answer])
}

/** A prompt with its answer. */
export type Answered = Asked & { readonly answer: Answer }

/** A row's prompt and the answer to learn from: of a preference the chosen one, of unpaired ones those labelled good. */
export const answered = (row: Row): Result.Result<Answered, string> => {
  const of = (prompt: Turns, turns: Turns) => Result.map(answerIn(turns), (answer) => ({ ...ask(prompt, row), answer }))
  if ("text" in row) return Result.flatMap(split(row.text), (parts) => of(...parts))
  if ("messages" in row) return Result.flatMap(split(row.messages), (parts) => of(...parts))
  if ("chosen" in row) {
    return row.prompt === undefined
      ? Result.flatMap(split(row.chosen), (parts) => of(...parts))
      : of(row.prompt, row.chosen)
  }
  if (!("completion" in row)) return Result.fail("a prompt without an answer")
  if ("label" in row && !row.label) return Result.fail("labelled as a bad answer")
  return of(row.prompt, row.completion)
}

/** The context of an example, which has a prompt alone. */
const contextOf = ({ prompt, ...given }: Asked): Result.Result<ModelContext, string> => {
  const [column] = Object.keys(given)
  if (column !== undefined) return Result.fail(`it has \`${column}\`, for which an example has no place`)
  return Result.succeed(typeof prompt === "string" ? prompt : { messages: prompt })
}

/** The completion of an example, which is a text alone. */
const completionOf = (answer: Answer): Result.Result<string, string> => {
  const [field] = typeof answer === "string" ? [] : Messages.more(answer)
  return field === undefined
    ? Result.succeed(textOf(answer))
    : Result.fail(`the answer has \`${field}\`, for which an example has no place`)
}

/** A row as an example to learn from its answer. */
export const example = (row: Row): Result.Result<Example, string> =>
  Result.gen(function* () {
    const { answer, ...asked } = yield* answered(row)
    const context = yield* contextOf(asked)
    const completion = yield* completionOf(answer)
    const id = Sample.id("example", JSON.stringify(asked.prompt), completion)
    return { id, context, completion, ...finishOf(row.finish) }
  })

const sameTurns = (a: ReadonlyArray<Message>, b: ReadonlyArray<Message>) =>
  a.length === b.length && a.every((message, i) => Messages.same(message, b[i]!))

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

/** A prompt with two answers. */
export type Compared = Asked & { readonly chosen: Answer; readonly rejected: Answer }

/** A preference's prompt and its two answers. */
export const compared = (row: Row): Result.Result<Compared, string> =>
  Result.gen(function* () {
    if (!("chosen" in row)) return yield* Result.fail("not a preference: no `chosen` with `rejected`")
    const [prompt, chosen, rejected] =
      row.prompt === undefined ? yield* shared(row.chosen, row.rejected) : [row.prompt, row.chosen, row.rejected]
    return { ...ask(prompt, row), chosen: yield* answerIn(chosen), rejected: yield* answerIn(rejected) }
  })

/** A preference as an example for a reward model; without a margin the chosen answer is certainly the better. */
export const preferenceExample = (row: Row): Result.Result<PreferenceExample, string> =>
  Result.gen(function* () {
    const { chosen, rejected, ...asked } = yield* compared(row)
    const context = yield* contextOf(asked)
    const first = yield* completionOf(chosen)
    const second = yield* completionOf(rejected)
    const margin = "margin" in row ? row.margin : undefined
    return {
      id: Sample.id("preference-example", JSON.stringify(asked.prompt), first, second),
      context,
      first,
      second,
      probability: margin === undefined ? 1 : 1 / (1 + Math.exp(-margin))
    }
  })
