/**
 * Parquet: one row group after the other, so that no more than one is in memory.
 */
import { Effect, FileSystem, Result, Stream } from "effect"
import * as Hyparquet from "hyparquet"
import * as Writer from "hyparquet-writer"
import { isUtf8 } from "node:buffer"
import { open } from "node:fs/promises"
import * as Zlib from "node:zlib"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import type { Reject } from "./DataError.ts"
import * as ParquetPages from "./ParquetPages.ts"
import * as Rows from "./Rows.ts"

/** What a column holds. Every value is there: a row without one cannot be written. */
export type Type = "string" | "double" | "int" | "boolean" | { readonly list: Type } | { readonly struct: Columns }

/** Columns by name, in their order. */
export interface Columns {
  readonly [name: string]: Type
}

const damaged = (file: string, what: string) => (error: unknown) =>
  new DataError({
    file,
    message: `${file}: ${what} cannot be read: ${error instanceof Error ? error.message : String(error)}.`
  })

const bytesOf = (buffer: Buffer): Uint8Array => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)

/** What `hyparquet` does not unpack itself. */
const compressors: Hyparquet.Compressors = {
  GZIP: (input) => bytesOf(Zlib.gunzipSync(input)),
  ZSTD: (input) => bytesOf(Zlib.zstdDecompressSync(input)),
  BROTLI: (input) => bytesOf(Zlib.brotliDecompressSync(input))
}

/**
 * Text as it stands in the file: `hyparquet`'s own takes a byte-order mark for none of it, and puts other characters in
 * the place of bytes that are no UTF-8. Those stay bytes, which is right for an image and refused where text is needed.
 */
const stringFromBytes = (bytes: Uint8Array | undefined): string | Uint8Array | undefined => {
  if (bytes === undefined) return undefined
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")
  return text.includes("\uFFFD") && !isUtf8(bytes) ? bytes.slice() : text
}

const parsers = { stringFromBytes }

/** A file that `hyparquet` reads pieces of; closed with the scope. */
const buffer = (file: string) =>
  Effect.acquireRelease(Effect.tryPromise({ try: () => open(file, "r"), catch: damaged(file, "the file") }), (handle) =>
    Effect.promise(() => handle.close())
  ).pipe(
    Effect.flatMap((handle) =>
      Effect.tryPromise({
        try: async (): Promise<Hyparquet.AsyncBuffer> => {
          const { size } = await handle.stat()
          return {
            byteLength: size,
            slice: async (start, end = size) => {
              const bytes = new Uint8Array(end - start)
              const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
              if (bytesRead < bytes.length) throw new Error("the file ends early")
              return bytes.buffer
            }
          }
        },
        catch: damaged(file, "the file")
      })
    )
  )

/**
 * Values as JSON has them: whole numbers of 64 bits as numbers, or as the text of their digits where a number does not
 * hold them (a hash in some column must not cost the row, nor two ids become one); times as ISO texts.
 */
const plain = (value: unknown): unknown => {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (value instanceof Date) return value.toISOString()
  // A list that is null comes as undefined.
  if (value === undefined) return null
  if (Array.isArray(value)) return value.map(plain)
  if (ArrayBuffer.isView(value) || !Rows.isRow(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
}

const entry = (file: string, line: number, row: Rows.Row): Result.Result<Rows.Entry, Reject> => {
  try {
    return Result.succeed({ line, row: plain(row) as Rows.Row })
  } catch (error) {
    return Rows.reject(file, line, error instanceof Error ? error.message : String(error))
  }
}

/** The rows of a file; as there are no lines, rows are counted, from 1. */
export const read = (file: string): Rows.Reader =>
  Stream.unwrap(
    Effect.gen(function* () {
      const start = yield* Bytes.head(file, 4)
      if (start.length === 0) return yield* new DataError({ file, message: `${file} is empty; it is no Parquet.` })
      const source = yield* buffer(file)
      const metadata = yield* Effect.tryPromise({
        try: () => ParquetPages.metadata(source),
        catch: damaged(file, "as Parquet, it")
      })
      const whole = ParquetPages.checked(source, metadata)
      const starts: Array<readonly [start: number, end: number]> = []
      for (const group of metadata.row_groups) {
        const start = starts.at(-1)?.[1] ?? 0
        starts.push([start, start + Number(group.num_rows)])
      }
      return Stream.fromIterable(starts).pipe(
        // One at a time: a chunk of the stream is never more than a row group.
        Stream.rechunk(1),
        Stream.mapEffect(([rowStart, rowEnd]) =>
          Effect.tryPromise({
            try: () => Hyparquet.parquetReadObjects({ file: whole, metadata, rowStart, rowEnd, compressors, parsers }),
            catch: damaged(file, `rows ${rowStart + 1} to ${rowEnd}`)
          }).pipe(Effect.map((rows) => rows.map((row, i) => entry(file, rowStart + i + 1, row))))
        ),
        Rows.flatten
      )
    })
  )

type Element = Writer.ParquetWriteOptions["schema"] extends ReadonlyArray<infer A> | undefined ? A : never

const primitive = {
  string: { type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" } },
  double: { type: "DOUBLE" },
  int: { type: "INT64" },
  boolean: { type: "BOOLEAN" }
} as const

/** Everything is declared optional, as Arrow does it: that is the schema that `datasets` writes itself. */
const elements = (name: string, type: Type): Array<Element> => {
  const optional = { name, repetition_type: "OPTIONAL" } as const
  if (typeof type === "string") return [{ ...optional, ...primitive[type] }]
  if ("list" in type) {
    return [
      { ...optional, num_children: 1, converted_type: "LIST", logical_type: { type: "LIST" } },
      { name: "list", repetition_type: "REPEATED", num_children: 1 },
      ...elements("element", type.list)
    ]
  }
  return [{ ...optional, num_children: Object.keys(type.struct).length }, ...fields(type.struct)]
}

const fields = (columns: Columns): Array<Element> =>
  Object.entries(columns).flatMap(([name, type]) => elements(name, type))

/** The value as the writer takes it; throws a sentence for one that does not fit its column. */
const fit = (name: string, type: Type, value: unknown): unknown => {
  const wrong = (what: string): never => {
    throw new Error(value === undefined || value === null ? `it has no \`${name}\`` : `\`${name}\` is not ${what}`)
  }
  if (type === "string") {
    // Half a character has no bytes; another one would stand in its place.
    if (typeof value === "string" && !value.isWellFormed()) throw new Error(`\`${name}\` has half a character`)
    return typeof value === "string" ? value : wrong("text")
  }
  if (type === "boolean") return typeof value === "boolean" ? value : wrong("true or false")
  if (type === "double") return typeof value === "number" && Number.isFinite(value) ? value : wrong("a finite number")
  if (type === "int") return Number.isSafeInteger(value) ? BigInt(value as number) : wrong("a whole number")
  if ("list" in type) {
    return Array.isArray(value) ? value.map((item) => fit(`${name}[]`, type.list, item)) : wrong("a list")
  }
  return Rows.isRow(value) ? fitRow(type.struct, value, `${name}.`) : wrong("an object")
}

const fitRow = (columns: Columns, row: Rows.Row, path = ""): Rows.Row => {
  const other = Object.keys(row).find((name) => !(name in columns))
  if (other !== undefined) throw new Error(`there is no column \`${path}${other}\``)
  return Object.fromEntries(
    Object.entries(columns).map(([name, type]) => [name, fit(`${path}${name}`, type, row[name])])
  )
}

/** Writes rows to a file with the given columns, `rowGroup` rows (1000 if not given) at a time. */
export const write =
  (file: string, columns: Columns, options: { readonly rowGroup?: number | undefined } = {}) =>
  <E, R>(rows: Stream.Stream<object, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> => {
    const failed = (error: unknown) =>
      new DataError({ file, message: `${file} cannot be written: ${error instanceof Error ? error.message : error}.` })
    return Bytes.atomically(file, (part) =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        yield* fs.writeFile(part, new Uint8Array(), { flag: "wx" }).pipe(Effect.mapError(failed))
        const schema = [{ name: "schema", num_children: Object.keys(columns).length }, ...fields(columns)]
        const out = new Writer.ParquetWriter({ writer: Writer.fileWriter(part), schema, createdBy: "charter-ai" })
        let number = 0
        yield* rows.pipe(
          Stream.grouped(options.rowGroup ?? 1000),
          Stream.runForEach((group) =>
            Effect.gen(function* () {
              const fitted = yield* Effect.try({
                try: () => group.map((row) => (number++, fitRow(columns, { ...row }))),
                catch: (error) => Rows.unwritable(file, number, error)
              })
              yield* Effect.tryPromise({
                try: async () =>
                  out.write({
                    columnData: Object.keys(columns).map((name) => ({ name, data: fitted.map((row) => row[name]) })),
                    rowGroupSize: fitted.length
                  }),
                catch: failed
              })
            })
          )
        )
        yield* Effect.tryPromise({ try: async () => out.finish(), catch: failed })
        yield* Effect.scoped(Effect.flatMap(fs.open(part, { flag: "r+" }), (handle) => handle.sync)).pipe(
          Effect.mapError(failed)
        )
      })
    )
  }
