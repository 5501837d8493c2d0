/**
 * Jsonl: one JSON object a line, each of which becomes a row or a typed reject.
 *
 * @example
 * Stream.fromIterable(rows).pipe(Jsonl.write("rows.jsonl.gz"))
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import type { DataError } from "./DataError.ts"
import * as JsonNames from "./JsonNames.ts"
import * as Lines from "./Lines.ts"
import * as Rows from "./Rows.ts"

/** A JSON object as it stands in a line. */
export type Row = Rows.Row

/** The object in a text, or why there is none. */
export const parse = (text: string): Result.Result<Row, string> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return Result.fail(`not valid JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (!Rows.isRow(value)) {
    return Result.fail(Array.isArray(value) ? "not a JSON object but an array" : "not a JSON object")
  }
  const twice = JsonNames.twice(text, value)
  return twice === undefined ? Result.succeed(value) : Result.fail(`an object with two values of \`${twice}\``)
}

/** A row as JSON text; throws for what JSON would quietly turn into null. */
export const stringify = (row: object): string => JSON.stringify(row, finite)

const finite = (key: string, value: unknown): unknown => {
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error(`\`${key}\` is ${value}`)
  return value
}

/** The rows of a file; blank lines are left out. */
export const read = (file: string): Rows.Reader =>
  Lines.read(file).pipe(
    Stream.map((result) =>
      Result.flatMap(result, ({ line, text }) => {
        const row = parse(text)
        return Result.isSuccess(row) ? Result.succeed({ line, row: row.success }) : Rows.reject(file, line, row.failure)
      })
    )
  )

/** Writes rows to a file, one a line. */
export const write =
  (file: string) =>
  <E, R>(rows: Stream.Stream<object, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> =>
    rows.pipe(
      Rows.encode(file, (row) => `${stringify(row)}\n`),
      Bytes.write(file)
    )
