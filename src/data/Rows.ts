/**
 * Rows: what every reader gives out and every writer takes, and the way from rows to values.
 *
 * A reader gives a `Result` for each row: the row with its place, or a `Reject` that names file, line and reason. A
 * bad row never ends the stream, never shifts the others and is never filled with nulls.
 *
 * @example
 * Jsonl.read("chats.jsonl.gz").pipe(
 *   Rows.decode("chats.jsonl.gz", Trl.decode),
 *   Rows.onReject((reject) => Effect.logWarning(reject.reason)),
 *   Stream.map(Trl.example)
 * )
 */
import { Array as Arr, Effect, Result, Schema, Stream } from "effect"
import type { FileSystem } from "effect"
import { DataError, Reject } from "./DataError.ts"

/** A row: named values. */
export type Row = Readonly<Record<string, unknown>>

/** A row with its place: the line where it begins, from 1 (in Parquet, the row). */
export interface Entry<A = Row> {
  readonly line: number
  readonly row: A
}

/** The rows of a file, with the bad ones as failures in their places. */
export type Reader<A = Row, R = FileSystem.FileSystem> = Stream.Stream<Result.Result<Entry<A>, Reject>, DataError, R>

/** Whether a value is a JSON object. */
export const isRow = (value: unknown): value is Row =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Whether a number is finite, and no whole number that JSON's readers round. */
export const isExact = (id: number): boolean =>
  Number.isSafeInteger(id) || (Number.isFinite(id) && !Number.isInteger(id))

/** Why such a number is no id: the digits that were given are gone by now, and two rows may have become one. */
export const inexactId = (id: number): string =>
  `\`id\` is beyond the numbers that are kept exactly (${id}); give it as text`

/** A failure that says where it is. */
export const reject = (file: string, line: number, reason: string): Result.Result<never, Reject> =>
  Result.fail(Reject.make({ file, line, reason }))

/**
 * What the arrays hold, in their order. `Stream.flattenIterable` gives the same, but opens a stream for each array,
 * and what those leave behind grows old before it is collected: reading a file then takes twice the memory.
 */
export const flatten = <A, E, R>(arrays: Stream.Stream<ReadonlyArray<A>, E, R>): Stream.Stream<A, E, R> =>
  arrays.pipe(Stream.filter(Arr.isReadonlyArrayNonEmpty), Stream.flattenArray)

/** Makes a value of each row, or a reject with the reason that `f` gives. */
export const decode =
  <A, B>(file: string, f: (row: A) => Result.Result<B, string>) =>
  <E, R>(rows: Stream.Stream<Result.Result<Entry<A>, Reject>, E, R>): Stream.Stream<Result.Result<B, Reject>, E, R> =>
    Stream.map(rows, (result) =>
      Result.flatMap(result, ({ line, row }) =>
        Result.mapError(f(row), (reason) => Reject.make({ file, line, reason }))
      )
    )

/** A decoder of rows from a schema, for {@link decode}; properties that the schema does not name are left out. */
export const schema = <A, I>(codec: Schema.Codec<A, I>): ((row: unknown) => Result.Result<A, string>) => {
  const parse = Schema.decodeUnknownResult(codec)
  return (row) => Result.mapError(parse(row), (issue) => String(issue).replace(/\s*\n\s*/g, " "))
}

/** Hands the bad rows to `sink` and lets the others through. */
export const onReject =
  <E1, R1>(sink: (reject: Reject) => Effect.Effect<void, E1, R1>) =>
  <A, E, R>(results: Stream.Stream<Result.Result<A, Reject>, E, R>): Stream.Stream<A, E | E1, R | R1> =>
    results.pipe(
      Stream.mapArrayEffect((chunk) =>
        Effect.gen(function* () {
          const out: Array<A> = []
          for (const result of chunk) {
            if (Result.isSuccess(result)) out.push(result.success)
            else yield* sink(result.failure)
          }
          return [out] as const
        })
      ),
      flatten
    )

/** A row that a writer cannot put into its file. */
export const unwritable = (file: string, row: number, cause: unknown): DataError => {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new DataError({ file, message: `${file}: row ${row} cannot be written: ${reason}.` })
}

/** The bytes of rows, a chunk of them at a time, however large it is. */
const encodeChunks =
  <A>(file: string, f: (row: A, number: number) => string) =>
  <E, R>(rows: Stream.Stream<A, E, R>): Stream.Stream<Uint8Array, E | DataError, R> =>
    Stream.suspend(() => {
      let number = 0
      return rows.pipe(
        Stream.mapArrayEffect((chunk) =>
          Effect.try({
            try: () => [Buffer.from(chunk.map((row) => f(row, ++number)).join(""))] as const,
            catch: (error) => unwritable(file, number, error)
          })
        )
      )
    })

/** Rows that are written together. */
const together = 64

/**
 * The texts of rows, several at a time, as bytes: `f` gets a row and its number from 1. It throws for a row that
 * cannot be written.
 */
export const encode =
  <A>(file: string, f: (row: A, number: number) => string) =>
  <E, R>(rows: Stream.Stream<A, E, R>): Stream.Stream<Uint8Array, E | DataError, R> =>
    rows.pipe(Stream.rechunk(together), encodeChunks(file, f))

/** The same of rows that take their time: one that is there does not wait for others, but for the write before it. */
export const encodeReady =
  <A>(file: string, f: (row: A, number: number) => string) =>
  <E, R>(rows: Stream.Stream<A, E, R>): Stream.Stream<Uint8Array, E | DataError, R> =>
    rows.pipe(Stream.buffer({ capacity: together }), encodeChunks(file, f))
