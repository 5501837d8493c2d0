/**
 * Prompts: the conversations that a run starts from, as a stream, out of any of the formats people have.
 *
 * - JSONL (`.gz` too) with `prompt` as text or messages, or `messages`, or hh-rlhf's `chosen` and `rejected`;
 *   `id` is kept, and `kind` (`harmful`, the default, or `benign`) says what the prompt is for;
 * - plain text with one prompt a line.
 *
 * The format is found by looking at the rows, not at the name. A row that cannot be used is a failure in the stream.
 */
import { Effect, Result, Schema, Stream } from "effect"
import type { FileSystem } from "effect"
import { Message } from "../Policy.ts"
import { DataError, Reject } from "./DataError.ts"
import * as HhRlhf from "./HhRlhf.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Sample from "../Sample.ts"
import * as Lines from "./Lines.ts"

/** What a file of prompts is made of. */
export type Format = "jsonl" | "text"

const isMessages = Schema.is(Schema.Array(Message))

/** How many lines decide what format a file has. */
const lookahead = 20

/** The format of a file that begins with these lines; undefined when it is one that is not read. */
export const detect = (file: string, lines: ReadonlyArray<string>): Format | undefined => {
  if (/^\[\s*(\{.*)?$/.test(lines[0]?.trim() ?? "")) return undefined
  if (lines.some((line) => Result.isSuccess(Jsonl.parse(line)))) return "jsonl"
  if (/\.jsonl?(\.gz)?$/i.test(file)) return "jsonl"
  return "text"
}

/** The conversation of a JSON row, or why it has none. */
export const conversation = (row: Jsonl.Row): Result.Result<ReadonlyArray<Message>, string> => {
  const { prompt, messages, chosen, rejected } = row
  if (typeof prompt === "string") return fromText(prompt)
  if (prompt !== undefined) {
    return isMessages(prompt) ? fromMessages(prompt) : Result.fail("`prompt` is neither text nor [{role, content}]")
  }
  if (typeof chosen === "string" && typeof rejected === "string") {
    const prefix = HhRlhf.sharedPrefix(chosen, rejected)
    return prefix === undefined
      ? Result.fail("`chosen` and `rejected` share no conversation that ends in \\n\\nAssistant:")
      : fromMessages(HhRlhf.messages(prefix))
  }
  if (messages !== undefined) {
    return isMessages(messages) ? fromMessages(messages) : Result.fail("`messages` is not [{role, content}]")
  }
  return Result.fail("no `prompt` (and no `messages`, no `chosen` with `rejected`)")
}

const fromText = (text: string) =>
  text.trim() === ""
    ? Result.fail("the prompt is empty")
    : fromMessages(HhRlhf.isTranscript(text) ? HhRlhf.messages(text) : [{ role: "user", content: text.trim() }])

/** The turns up to the last one of the human: a recorded answer at the end is not part of the prompt. */
const fromMessages = (all: ReadonlyArray<Message>): Result.Result<ReadonlyArray<Message>, string> => {
  const last = all.findLastIndex((message) => message.role === "user")
  if (last < 0) return Result.fail("no turn of the human")
  if (all[last]?.content.trim() === "") return Result.fail("the last turn of the human is empty")
  return Result.succeed(all.slice(0, last + 1))
}

const kinds: ReadonlyArray<unknown> = ["harmful", "benign"]

const rowKind = (row: Jsonl.Row): Result.Result<Sample.Kind, string> => {
  const kind = row["kind"] ?? "harmful"
  return kinds.includes(kind)
    ? Result.succeed(kind as Sample.Kind)
    : Result.fail("`kind` is neither harmful nor benign")
}

/** A row's own id is kept, so that records can be followed back to it; without one the content names the prompt. */
const withRowId = (prompt: Sample.Prompt, id: unknown): Sample.Prompt =>
  (typeof id === "string" && id !== "") || typeof id === "number"
    ? new Sample.Prompt({ ...prompt, id: String(id) })
    : prompt

const fromLine = (format: Format, { text }: Lines.Line): Result.Result<Sample.Prompt, string> =>
  format === "text"
    ? Result.map(fromText(text), (messages) => Sample.prompt(messages))
    : Result.gen(function* () {
        const row = yield* Jsonl.parse(text)
        const kind = yield* rowKind(row)
        const messages = yield* conversation(row)
        return withRowId(Sample.prompt(messages, kind), row["id"])
      })

/**
 * The prompts of a file in its order, at most `limit` of them; rows that cannot be used, and repetitions, are in their
 * places as failures.
 */
export const read = (
  file: string,
  options: { readonly limit?: number | undefined } = {}
): Stream.Stream<Result.Result<Sample.Prompt, Reject>, DataError, FileSystem.FileSystem> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const head = yield* Lines.read(file).pipe(Stream.take(lookahead), Stream.runCollect)
      if (head.length === 0) {
        return yield* new DataError({ file, message: `${file} has no text in it; it needs at least one prompt.` })
      }
      const format = detect(
        file,
        head.map(({ text }) => text)
      )
      if (format === undefined) {
        return yield* new DataError({
          file,
          message: `${file} is one JSON array; write it as JSONL, one object a line with a "prompt".`
        })
      }
      const seen = new Map<string, number>()
      const row = (line: Lines.Line): Result.Result<Sample.Prompt, Reject> =>
        Result.gen(function* () {
          const prompt = yield* fromLine(format, line)
          const earlier = seen.get(prompt.id)
          if (earlier !== undefined) return yield* Result.fail(`the same prompt (or id) as line ${earlier}`)
          seen.set(prompt.id, line.line)
          return prompt
        }).pipe(Result.mapError((reason) => Reject.make({ file, line: line.line, reason })))
      const limit = options.limit ?? Infinity
      let taken = 0
      return Lines.read(file).pipe(
        Stream.map(row),
        Stream.takeUntil((result) => Result.isSuccess(result) && ++taken >= limit)
      )
    })
  )
