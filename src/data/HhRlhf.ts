/**
 * HhRlhf: the `\n\nHuman:` / `\n\nAssistant:` conversations of the Anthropic data sets.
 *
 * A row of hh-rlhf holds two conversations `{chosen, rejected}` that differ in the last answer alone; what they share,
 * up to the last `\n\nAssistant:`, is the prompt (Bai et al. 2022, arXiv 2204.05862).
 */
import { Result, Schema } from "effect"
import type { Effect, FileSystem, Stream } from "effect"
import type { Message } from "../Policy.ts"
import type { Preference } from "../Sample.ts"
import { humanAssistant } from "../Transcript.ts"
import type { DataError, Reject } from "./DataError.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Rows from "./Rows.ts"

const assistant = "\n\nAssistant:"
const marker = /\n\n(Human|Assistant):/g

/** The number of characters that both texts begin with. */
export const sharedLength = (a: string, b: string): number => {
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
export const isTranscript = (text: string): boolean => /^\s*Human:/.test(text)

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

/** A row of the data set. */
export const Row = Schema.Struct({ chosen: Schema.String, rejected: Schema.String })
export type Row = typeof Row.Type

/** A preference as a row; which of the answers is chosen in a tie is no matter of chance, so there is none. */
export const fromPreference = ({ comparison, probability }: Preference): Result.Result<Row, string> => {
  if (probability === 0.5) return Result.fail("a tie: neither answer is chosen")
  const prompt = humanAssistant.response(comparison.prompt).context
  const first = `${prompt}${humanAssistant.completion(comparison.first.text)}`
  const second = `${prompt}${humanAssistant.completion(comparison.second.text)}`
  return Result.succeed(probability > 0.5 ? { chosen: first, rejected: second } : { chosen: second, rejected: first })
}

/** The rows of a file; rows whose conversations share no prompt are rejected. */
export const read = (file: string): Stream.Stream<Result.Result<Row, Reject>, DataError, FileSystem.FileSystem> => {
  const parse = Rows.schema(Row)
  return Jsonl.read(file).pipe(
    Rows.decode(file, (row) =>
      Result.flatMap(parse(row), (pair): Result.Result<Row, string> =>
        sharedPrefix(pair.chosen, pair.rejected) === undefined
          ? Result.fail("`chosen` and `rejected` share no conversation that ends in \\n\\nAssistant:")
          : Result.succeed(pair)
      )
    )
  )
}

/** Writes rows to a file. */
export const write = (
  file: string
): (<E, R>(rows: Stream.Stream<Row, E, R>) => Effect.Effect<void, E | DataError, R | FileSystem.FileSystem>) =>
  Jsonl.write(file)
