/**
 * TrainRows: a file of examples as tokens to learn from, with a reason for each row that cannot be used.
 *
 * Rows are of any of TRL's shapes (`data/Trl.ts`), or token ids (`TrainTokens.ts`), which need no tokenizer. A row is
 * never cut, filled or skipped in silence.
 */
import { Effect, Option, Result, Stream } from "effect"
import { createHash } from "node:crypto"
import { createReadStream, existsSync } from "node:fs"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import * as Csv from "../data/Csv.ts"
import type { Reject } from "../data/DataError.ts"
import * as Files from "../data/Files.ts"
import type * as Rows from "../data/Rows.ts"
import * as Trl from "../data/Trl.ts"
import * as Batch from "../engine/Batch.ts"
import type { NamedPair, NamedRow } from "../engine/TrainingData.ts"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as TextCodec from "../providers/onnx/TextCodec.ts"
import * as Atomic from "../recipes/Atomic.ts"
import * as RowAnswers from "./RowAnswers.ts"
import * as TokenRows from "./TokenRows.ts"
import * as TrainTokens from "./TrainTokens.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** The rows that can be used, and why the others cannot. */
export interface Read<Row> {
  readonly rows: ReadonlyArray<Row>
  readonly rejects: ReadonlyArray<Reject>
  /** Of the file's bytes, in hexadecimal digits. */
  readonly hash: string
  /** Of the rows as tokens: another tokenizer, chat template or end token makes others of the same bytes. */
  readonly encoded: string
}

type Reading<A> = Effect.Effect<A, string>

/** What turns rows into tokens. */
export interface Encoder {
  readonly checkpoint: Checkpoint
  readonly codec: Option.Option<TextCodec.TextCodec>
  readonly maxLength: number
}

/** The encoder of a model; a folder without a tokenizer takes rows of token ids alone. */
export const encoder = Effect.fnUntraced(function* (checkpoint: Checkpoint, maxLength: number) {
  const codec = existsSync(join(checkpoint.dir, "tokenizer.json"))
    ? Option.some(yield* TextCodec.load(checkpoint))
    : Option.none()
  return { checkpoint, codec, maxLength } satisfies Encoder
})

/** Whether tomorrow the same rows may be other tokens. */
export const isDated = ({ codec }: Encoder): boolean => Option.exists(codec, ({ dated }) => dated)

const texts = ({ codec }: Encoder): Reading<TextCodec.TextCodec> =>
  Option.match(codec, {
    onNone: () => Effect.fail("the model's folder has no tokenizer.json to read text with; give input_ids and labels"),
    onSome: Effect.succeed
  })

/** Refuses what the network cannot read, with `more` to come, and what is longer than it may be. */
const fits = ({ checkpoint, maxLength }: Encoder, ids: ReadonlyArray<number>, more = 0): Reading<void> => {
  const reason =
    TokenRows.problem(ids, checkpoint.config, more) ??
    (ids.length > maxLength ? `${ids.length} tokens are more than the ${maxLength} that a row may have` : undefined)
  return reason === undefined ? Effect.void : Effect.fail(reason)
}

const textRow = Effect.fnUntraced(function* (
  encoder: Encoder,
  row: Rows.Row
): Effect.fn.Return<Omit<NamedRow, "id">, string> {
  const { answer, ...asked } = yield* Effect.fromResult(Result.flatMap(Trl.decode(row), Trl.answered))
  if (RowAnswers.isBlank(answer)) return yield* Effect.fail("the completion is empty: there is nothing to learn")
  const codec = yield* texts(encoder)
  // As `charter generate` writes it of an answer that was cut off.
  const finish = row["finish"] === "length" ? "length" : "stop"
  const more = RowAnswers.more(answer)
  if (finish === "length" && more !== undefined) {
    const reason = `the answer has \`${more}\`, with which a chat template ends it, and \`finish\` says that it was cut off`
    return yield* Effect.fail(reason)
  }
  const { answers, prompt } = yield* RowAnswers.tokens(codec, asked, [answer], (text) => codec.completion(text, finish))
  return Batch.answerRow([...prompt, ...answers[0]!], prompt.length)
})

/** Why nothing of a row can be learnt: its first token has nothing before it that it could be predicted from. */
const unlearnable = ({ ids, weights }: Omit<NamedRow, "id">): string | undefined => {
  if (ids.length === 1) return "it is a single token, which has nothing before it to be predicted from"
  const counted = ids.flatMap((_, t) => (weights[t] === 0 ? [] : [t]))
  if (counted.some((t) => t > 0)) return undefined
  return counted.length === 0
    ? "its mask has nothing in it: no token is to be learnt"
    : "its mask has nothing in it but the first token, which has nothing before it to be predicted from"
}

/** A row of supervised fine-tuning: the completion's tokens count, with the token that ends it if it was not cut off. */
export const example = (encoder: Encoder) =>
  Effect.fnUntraced(function* (row: Rows.Row): Effect.fn.Return<Omit<NamedRow, "id">, string> {
    const made = yield* row["input_ids"] === undefined ? textRow(encoder, row) : Effect.fromResult(TrainTokens.row(row))
    yield* fits(encoder, made.ids)
    const nothing = unlearnable(made)
    return nothing === undefined ? made : yield* Effect.fail(nothing)
  })

const number = (row: Rows.Row, name: string, otherwise: number): Result.Result<number, string> => {
  const value = row[name] ?? otherwise
  // Learning computes in 32 bits.
  return typeof value === "number" && Number.isFinite(Math.fround(value))
    ? Result.succeed(value)
    : Result.fail(`\`${name}\` is not a finite number`)
}

const same = (a: ReadonlyArray<number>, b: ReadonlyArray<number>) =>
  a.length === b.length && a.every((x, i) => x === b[i])

const textPair = Effect.fnUntraced(function* (
  encoder: Encoder,
  row: Rows.Row
): Effect.fn.Return<TrainTokens.Sides, string> {
  // The margin stays a margin here, as in TRL: it is subtracted from the difference of the scores.
  const { margin: _, ...plain } = row
  const { chosen, rejected, ...asked } = yield* Effect.fromResult(Result.flatMap(Trl.decode(plain), Trl.compared))
  if ([chosen, rejected].some(RowAnswers.isBlank)) return yield* Effect.fail("one of the completions is empty")
  const codec = yield* texts(encoder)
  const { answers, prompt } = yield* RowAnswers.tokens(codec, asked, [chosen, rejected], codec.completion)
  return { first: [...prompt, ...answers[0]!], second: [...prompt, ...answers[1]!], from: prompt.length }
})

/** A pair for a reward model or for DPO: `probability` is a soft label of `chosen`, 1 if left out. */
export const pair = (encoder: Encoder, kind: "reward" | "dpo") =>
  Effect.fnUntraced(function* (row: Rows.Row): Effect.fn.Return<Omit<NamedPair, "id">, string> {
    const probability = yield* Effect.fromResult(number(row, "probability", 1))
    if (probability < 0 || probability > 1) return yield* Effect.fail("`probability` is not between 0 and 1")
    const margin = yield* Effect.fromResult(number(row, "margin", 0))
    const sides = yield* TrainTokens.hasPair(row) ? Effect.fromResult(TrainTokens.pair(row)) : textPair(encoder, row)
    yield* fits(encoder, sides.first)
    yield* fits(encoder, sides.second)
    if (same(sides.first, sides.second)) {
      return yield* Effect.fail("chosen and rejected are the same: there is nothing to prefer")
    }
    // A reward model reads a single token; to a policy it says nothing, as nothing comes before it.
    const bare = (["first", "second"] as const).find((side) => sides[side].length <= Math.max(1, sides.from))
    if (kind === "dpo" && bare !== undefined) {
      const name = bare === "first" ? "chosen" : "rejected"
      return yield* Effect.fail(`${name} is a single token with nothing before it to be predicted from; give a prompt`)
    }
    return { ...sides, probability, margin }
  })

/** The tokens of a prompt, with room for so many more. */
export const prompt = (encoder: Encoder, room: number) =>
  Effect.fnUntraced(function* (row: Rows.Row): Effect.fn.Return<{ readonly ids: ReadonlyArray<number> }, string> {
    const ids = yield* row["input_ids"] === undefined
      ? Effect.gen(function* () {
          const { chat_template_kwargs, prompt, tools } = row
          if (prompt === undefined) return yield* Effect.fail("no `prompt` and no `input_ids`")
          const asked = yield* Effect.fromResult(Trl.decode({ prompt, chat_template_kwargs, tools }))
          return yield* RowAnswers.prompt(yield* texts(encoder), asked as Trl.Asked)
        })
      : Effect.fromResult(TrainTokens.unpadded(row, "input_ids", "attention_mask"))
    yield* fits(encoder, ids, room)
    return { ids }
  })

/** Of a file of any size. */
const digest = (file: string): Effect.Effect<string, UsageError> =>
  Effect.tryPromise({
    try: async () => {
      const hash = createHash("sha256")
      await pipeline(createReadStream(file), hash)
      return hash.digest("hex").slice(0, 16)
    },
    catch: (cause) => new UsageError({ message: `${file} cannot be read: ${Atomic.reasonOf(cause)}.` })
  })

/** A column of null is one that a row does not have: Parquet has every column in every row. */
const present = (row: Rows.Row): Rows.Row =>
  Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null))

/** In a CSV file all is text. */
const typed = Csv.typed(["probability", "margin", "label"])

/** Reads a file of rows; fails when none can be used. A row is named by its file's place, `line 12`. */
export const read = Effect.fnUntraced(function* <A>(file: string, make: (row: Rows.Row) => Reading<A>) {
  const format = Files.format(file) ?? "jsonl"
  const found = yield* Files.read(file, format).pipe(Stream.runCollect, Effect.mapError(fromInput))
  const rows: Array<A & { readonly id: string }> = []
  const rejects: Array<Reject> = []
  for (const entry of found) {
    if (Result.isFailure(entry)) {
      rejects.push(entry.failure)
      continue
    }
    const { line, row } = entry.success
    const made = yield* Effect.result(make(format === "csv" ? typed(row) : present(row)))
    if (Result.isSuccess(made)) rows.push({ ...made.success, id: `line ${line}` })
    else rejects.push({ _tag: "Reject", file, line, reason: made.failure })
  }
  if (rows.length === 0) {
    const first = rejects[0]
    const why = first === undefined ? "it is empty" : `line ${first.line}: ${first.reason}`
    return yield* new UsageError({ message: `${file} has no row that can be used; ${why}.` })
  }
  const encoded = createHash("sha256")
  for (const row of rows) encoded.update(`${JSON.stringify(row)}\n`)
  return { rows, rejects, hash: yield* digest(file), encoded: encoded.digest("hex").slice(0, 16) } satisfies Read<
    A & { readonly id: string }
  >
})
