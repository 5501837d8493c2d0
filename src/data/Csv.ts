/**
 * Csv: comma-separated values with a header (RFC 4180): quotes, line breaks in quotes, `\n` and `\r\n`.
 *
 * A record that does not fit the header is rejected and not filled up. (`effect/encoding` has a decoder of CSV, too;
 * it ends with the first bad record.)
 */
import { Effect, Result, Stream } from "effect"
import type { FileSystem } from "effect"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as Records from "./Records.ts"
import * as Rows from "./Rows.ts"

const quote = 34
const comma = 44
const newline = 10

/** Line breaks outside quotes. A quote opens only at the start of a cell, so a stray one does not swallow the rest. */
const records = (): Records.Boundary => {
  let state: "start" | "plain" | "quoted" | "after" = "start"
  return {
    next: (bytes, from) => {
      for (let i = from; i < bytes.length; i++) {
        const byte = bytes[i]
        if (state === "quoted") {
          if (byte === quote) state = "after"
        } else if (byte === newline) {
          state = "start"
          return i + 1
        } else if (byte === comma) state = "start"
        else if (byte === quote) state = state === "plain" ? "plain" : "quoted"
        else if (state !== "start" || !byteOrderMark.includes(byte)) state = "plain"
      }
      return -1
    }
  }
}

const byteOrderMark: ReadonlyArray<number | undefined> = [0xef, 0xbb, 0xbf]

/** Where the quoted cell that begins at `from` ends, behind its last quote; undefined where it is not closed. */
const quotedEnd = (text: string, from: number): number | undefined => {
  for (let at = text.indexOf('"', from + 1); at >= 0; at = text.indexOf('"', at + 2)) {
    if (text[at + 1] !== '"') return at + 1
  }
  return undefined
}

const plain = /[^",\r\n]*/y

/** Where the cell that begins at `from` ends, if it does: a pattern for quoted ones would have no room for large ones. */
const cellEnd = (text: string, from: number): number | undefined => {
  if (text[from] === '"') return quotedEnd(text, from)
  plain.lastIndex = from
  plain.test(text)
  return plain.lastIndex
}

const cellOf = (written: string): string => (written[0] === '"' ? written.slice(1, -1).replaceAll('""', '"') : written)

/** The cells of a record, or what is wrong with it. */
const cells = (text: string): Result.Result<ReadonlyArray<string>, string> => {
  const out: Array<string> = []
  for (let at = 0; ;) {
    const end = cellEnd(text, at)
    const wrong = (fault: string) => Result.fail(`cell ${out.length + 1}: ${fault}`)
    if (end === undefined) return wrong("a quote that is not closed")
    if (text[end] === "\r") return wrong("a carriage return that is not in quotes and ends no line")
    if (end < text.length && text[end] !== ",") return wrong("a quote out of place")
    out.push(cellOf(text.slice(at, end)))
    if (end === text.length) return Result.succeed(out)
    at = end + 1
  }
}

/** The other lines of a bad record, which might be rows or the inside of a cell: nobody can tell. */
const lost = (text: string, line: number): string => {
  const more = text.split("\n").length - 1
  return more === 0 ? "" : `; the record goes on to line ${line + more}`
}

/** The rows of a file, under the names of its first record; every value is text. */
export const read = (file: string): Rows.Reader<Readonly<Record<string, string>>> =>
  Stream.suspend(() => {
    type Row = Readonly<Record<string, string>>
    let header: ReadonlyArray<string> | undefined
    const rowOf = (found: ReadonlyArray<string>, names: ReadonlyArray<string>): Result.Result<Row, string> =>
      found.length === names.length
        ? Result.succeed(Object.fromEntries(names.map((name, i) => [name, found[i] ?? ""])))
        : Result.fail(`${found.length} cells under a header of ${names.length}`)
    const headerOf = Effect.fnUntraced(function* (record: Result.Result<ReadonlyArray<string>, string>) {
      if (Result.isFailure(record)) {
        return yield* new DataError({ file, message: `${file} has no header that can be read: ${record.failure}.` })
      }
      const twice = record.success.find((name, i) => record.success.indexOf(name) !== i)
      if (twice === undefined) return record.success
      return yield* new DataError({ file, message: `${file} has two columns named \`${twice}\`.` })
    })
    return Records.read(file, records).pipe(
      Stream.mapArrayEffect((found) =>
        Effect.gen(function* () {
          const out: Array<Result.Result<Rows.Entry<Row>, Reject>> = []
          for (const record of found) {
            if (Result.isFailure(record)) {
              if (header === undefined) yield* headerOf(Result.fail(record.failure.reason))
              out.push(Result.fail(record.failure))
              continue
            }
            const { line } = record.success
            const text = record.success.text.replace(/\r?\n$|\r$/, "")
            if (text === "") continue
            if (header === undefined) {
              header = yield* headerOf(cells(text))
              continue
            }
            const names = header
            const row = Result.flatMap(cells(text), (values) => rowOf(values, names))
            out.push(
              Result.isSuccess(row)
                ? Result.succeed({ line, row: row.success })
                : Rows.reject(file, line, `${row.failure}${lost(text, line)}`)
            )
          }
          return [out] as const
        })
      ),
      Rows.flatten
    )
  })

const typedCell = (text: string): string | number | boolean => {
  if (/^(true|false)$/i.test(text)) return text.toLowerCase() === "true"
  return Number.isFinite(Number(text)) ? Number(text) : text
}

/**
 * A row with numbers and booleans in the columns that are to have them, and without those whose cell is empty. What is
 * neither stays text.
 *
 * @example
 * Csv.typed(["margin", "label"])({ prompt: "1 + 1?", margin: "", label: "True" }) // { prompt: "1 + 1?", label: true }
 */
export const typed =
  (names: ReadonlyArray<string>) =>
  (row: Rows.Row): Rows.Row =>
    Object.fromEntries(
      Object.entries(row).flatMap(([name, value]) => {
        if (typeof value !== "string" || !names.includes(name)) return [[name, value]]
        return value.trim() === "" ? [] : [[name, typedCell(value.trim())]]
      })
    )

const quoted = (text: string, alone: boolean): string =>
  /[",\r\n\uFEFF]/.test(text) || (alone && text === "") ? `"${text.replaceAll('"', '""')}"` : text

const valueOf = (row: Rows.Row, name: string): string => {
  const value = row[name]
  if (typeof value === "string" && value.includes("\0"))
    throw new Error(`\`${name}\` has a NUL byte; JSONL can hold it`)
  if (typeof value === "string" && !value.isWellFormed())
    throw new Error(`\`${name}\` has half a character; JSONL can hold it`)
  if (typeof value === "string" || typeof value === "boolean") return String(value)
  if (typeof value === "number" && Number.isFinite(value)) return String(value)
  throw new Error(`\`${name}\` is neither text nor a number; JSONL can hold it`)
}

/** Writes rows to a file, under the given names; a row with other names is a failure. */
export const write =
  (file: string, columns: ReadonlyArray<string>) =>
  <E, R>(rows: Stream.Stream<Rows.Row, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> => {
    const record = (values: ReadonlyArray<string>) =>
      `${values.map((value) => quoted(value, values.length === 1)).join(",")}\r\n`
    const rowText = (row: Rows.Row) => {
      const other = Object.keys(row).find((name) => !columns.includes(name))
      if (other !== undefined) throw new Error(`there is no column \`${other}\``)
      return record(columns.map((name) => valueOf(row, name)))
    }
    return Stream.succeed<Uint8Array>(Buffer.from(record(columns))).pipe(
      Stream.concat(rows.pipe(Rows.encode(file, rowText))),
      Bytes.write(file)
    )
  }
