/**
 * Prompts: the conversations that a run starts from, as a stream, out of any of the formats people have.
 *
 * - JSONL (`.gz` and `.zst` too) with `prompt` as text or messages, or `messages`, or hh-rlhf's `chosen` and `rejected`;
 *   `id` is kept, and `kind` (`harmful`, the default, or `benign`) says what the prompt is for;
 * - JSON arrays, CSV and Parquet with the same names;
 * - plain text with one prompt a line.
 *
 * All but CSV is recognised by what is in the file, not by its name. A row that cannot be used is a failure in the
 * stream.
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import type { Message } from "../Policy.ts"
import * as Sample from "../Sample.ts"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as Files from "./Files.ts"
import * as HhRlhf from "./HhRlhf.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Lines from "./Lines.ts"
import * as Messages from "./Messages.ts"
import * as Rows from "./Rows.ts"
import * as Seen from "./Seen.ts"

/** What a file of prompts is made of. */
export type Format = Files.Format

/** How many lines decide what format a file has. */
const lookahead = 20

/** Whether text begins as an array of objects does, which may be one line of any length. */
const beginsArray = (text: string): boolean => /^\s*\[[^\S\n]*(?:\n|\{|$)/.test(text)

/** The format of a text file that is no array and begins with these lines. */
const formatOfLines = (file: string, lines: ReadonlyArray<string>): Format => {
  if (lines.some((line) => Result.isSuccess(Jsonl.parse(line)))) return "jsonl"
  if (/\.(jsonl?|ndjson)(\.(gz|zstd?))?$/i.test(file)) return "jsonl"
  return "text"
}

/** The conversation of a JSON row, or why it has none. */
export const conversation = (row: Jsonl.Row): Result.Result<ReadonlyArray<Message>, string> => {
  // Null is a column that the row does not have: Parquet has every column in every row.
  const { prompt, messages, chosen, rejected } = Object.fromEntries(
    Object.entries(row).filter(([, value]) => value !== null)
  )
  if (typeof prompt === "string") return fromText(prompt)
  if (prompt !== undefined) return Result.flatMap(Messages.decode("prompt", prompt), fromMessages)
  if (typeof chosen === "string" && typeof rejected === "string") {
    const prefix = HhRlhf.sharedPrefix(chosen, rejected)
    return prefix === undefined
      ? Result.fail("`chosen` and `rejected` share no conversation that ends in \\n\\nAssistant:")
      : fromMessages(HhRlhf.messages(prefix))
  }
  if (messages !== undefined) return Result.flatMap(Messages.decode("messages", messages), fromMessages)
  const names = Object.keys(row).slice(0, 5).join(", ")
  return Result.fail(
    `no \`prompt\` (and no \`messages\`, no \`chosen\` with \`rejected\`): the row has ${names || "nothing"}`
  )
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

/**
 * A row's own id is kept, so that records can be followed back to it; without one the content names the prompt. The
 * conversation ends with a turn of the human.
 */
const promptOf = (row: Rows.Row, messages: ReadonlyArray<Message>, kind: Sample.Kind): Sample.Prompt =>
  hasId(row)
    ? new Sample.Prompt({ id: String(row["id"]), text: messages.at(-1)?.content ?? "", messages, kind })
    : Sample.prompt(messages, kind)

const hasId = ({ id }: Rows.Row): boolean => (typeof id === "string" && id !== "") || typeof id === "number"

const fromRow = (row: Rows.Row): Result.Result<Sample.Prompt, string> =>
  Result.gen(function* () {
    const kind = yield* rowKind(row)
    const { id } = row
    if (typeof id === "number" && !Rows.isExact(id)) return yield* Result.fail(Rows.inexactId(id))
    return promptOf(row, yield* conversation(row), kind)
  })

/** The format of a file: Parquet and JSON arrays by their first bytes, CSV by its name, the rest by its lines. */
const formatOf = Effect.fnUntraced(function* (file: string) {
  const magic = yield* Bytes.head(file, 4)
  if (new TextDecoder().decode(magic) === "PAR1") return "parquet"
  yield* Lines.inspect(file)
  if (Files.format(file) === "csv") return "csv"
  const [start = new Uint8Array()] = yield* Bytes.read(file).pipe(Stream.take(1), Stream.runCollect)
  if (beginsArray(Buffer.from(start).toString())) return "json"
  const head = yield* Lines.read(file).pipe(Stream.take(lookahead), Stream.runCollect)
  if (head.length === 0) {
    return yield* new DataError({ file, message: `${file} has no text in it; it needs at least one prompt.` })
  }
  return formatOfLines(
    file,
    head.flatMap((line) => (Result.isSuccess(line) ? [line.success.text] : []))
  )
})

/**
 * The prompts of a file in its order, at most `limit` of them; rows that cannot be used, or have the id of another row,
 * are in their places as failures. A prompt that stands there twice is two prompts with ids of their own.
 */
export const read = (
  file: string,
  options: { readonly limit?: number | undefined } = {}
): Stream.Stream<Result.Result<Sample.Prompt, Reject>, DataError, FileSystem.FileSystem> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const format = yield* formatOf(file)
      const seen = Seen.make()
      const repeated = new Map<string, number>()
      const prompt = (result: Result.Result<Rows.Entry, Reject>): Result.Result<Sample.Prompt, Reject> =>
        Result.flatMap(result, ({ line, row }): Result.Result<Sample.Prompt, Reject> => {
          const made = fromRow(row)
          if (Result.isFailure(made)) return Rows.reject(file, line, made.failure)
          const { id } = made.success
          const earlier = seen.meet(id, line)
          if (earlier === undefined) return Result.succeed(made.success)
          if (hasId(row)) return Rows.reject(file, line, `the same id as line ${earlier}`)
          const time = (repeated.get(id) ?? 1) + 1
          repeated.set(id, time)
          return Result.succeed(new Sample.Prompt({ ...made.success, id: Sample.id("prompt", id, time) }))
        })
      const limit = options.limit ?? Infinity
      let taken = 0
      return Files.read(file, format).pipe(
        Stream.map(prompt),
        Stream.takeUntil((result) => Result.isSuccess(result) && ++taken >= limit)
      )
    })
  )
