/**
 * Json: the objects of one JSON array, one after the other, without the whole of it in memory.
 *
 * A scanner follows strings and brackets to the comma after each element; what an element holds is `JSON.parse`'s
 * matter, so a bad one is rejected alone. (`effect/encoding` has a decoder of arrays, too; it ends with the first bad
 * element.)
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Records from "./Records.ts"
import * as Rows from "./Rows.ts"

const quote = 34
const comma = 44
const backslash = 92
const open: ReadonlyArray<number | undefined> = [91, 123]
const close: ReadonlyArray<number | undefined> = [93, 125]

/** The `[`, then elements up to their comma or the `]`, then what follows. */
const elements = (): Records.Boundary => {
  let depth = 0
  let inString = false
  let escaped = false
  return {
    next: (bytes, from) => {
      for (let i = from; i < bytes.length; i++) {
        const byte = bytes[i]
        if (escaped) escaped = false
        else if (inString) {
          if (byte === backslash) escaped = true
          else if (byte === quote) inString = false
        } else if (byte === quote) inString = true
        else if (byte === comma) {
          if (depth === 1) return i + 1
        } else if (open.includes(byte)) {
          if (++depth === 1) return i + 1
        } else if (close.includes(byte)) {
          if (--depth === 0) return i + 1
        }
      }
      return -1
    }
  }
}

const leadingLines = (text: string): number =>
  text.slice(0, text.length - text.trimStart().length).split("\n").length - 1

/** The rows of a file; the line of a row is the one where its object begins. */
export const read = (file: string): Rows.Reader =>
  Stream.suspend(() => {
    let opened = false
    let closed = false
    const entry = (record: Records.Record): ReadonlyArray<Result.Result<Rows.Entry, Reject>> => {
      const line = record.line + leadingLines(record.text)
      const text = record.text.trim()
      if (closed) return text === "" ? [] : [Rows.reject(file, line, "text after the end of the array")]
      // Only an element's own end is taken off; what a torn file ends with may look like one.
      const end = record.ended ? text.at(-1) : undefined
      const element = (record.ended ? text.slice(0, -1) : text).trim()
      closed = end === "]"
      if (element === "") return end === "," ? [Rows.reject(file, line, "nothing before the comma")] : []
      const row = Jsonl.parse(element)
      return [Result.isSuccess(row) ? Result.succeed({ line, row: row.success }) : Rows.reject(file, line, row.failure)]
    }
    return Records.read(file, elements).pipe(
      Stream.mapArrayEffect((records) =>
        Effect.gen(function* () {
          const out: Array<Result.Result<Rows.Entry, Reject>> = []
          for (const record of records) {
            if (Result.isFailure(record)) out.push(Result.fail(record.failure))
            else if (opened) out.push(...entry(record.success))
            else if (record.success.text.trim() === "[") opened = true
            else
              return yield* new DataError({
                file,
                message: `${file} is not a JSON array; objects on lines of their own are JSONL.`
              })
          }
          return [out] as const
        })
      ),
      Rows.flatten
    )
  })

/** Writes rows to a file as one JSON array, a row a line. */
export const write =
  (file: string) =>
  <E, R>(rows: Stream.Stream<object, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> =>
    Stream.succeed<Uint8Array>(Buffer.from("[")).pipe(
      Stream.concat(rows.pipe(Rows.encode(file, (row, n) => `${n === 1 ? "" : ","}\n${Jsonl.stringify(row)}`))),
      Stream.concat(Stream.succeed<Uint8Array>(Buffer.from("\n]\n"))),
      Bytes.write(file)
    )
